"""The simulated Alipay+: verifies a request, refuses it with the documented code, or answers as the script says."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.simulator.answers import Signer, compose
from gateway.simulator.arrival import Partner, Refusal, verify
from gateway.simulator.behaviour import Behaviour
from gateway.simulator.peer import Outcome
from gateway.simulator.wire import Request

SUCCESS: Final = Behaviour()


@dataclass(frozen=True, slots=True)
class Alipayplus:
    """Whom it knows and as whom it answers; the instance is the `respond` of a `gateway.simulator.peer.Peer`.

    A request that is refused takes nothing from the script.
    """

    partner: Partner
    signer: Signer
    now: Callable[[], datetime]

    def __call__(self, request: Request, take: Callable[[], Behaviour]) -> Outcome:
        """Give the answer to one request, and what was wrong with it."""
        time = self.now().astimezone().isoformat(timespec="seconds")
        try:
            verify(request, self.partner)
        except Refusal as refusal:
            behaviour = Behaviour(code=refusal.code, signed=refusal.signed)
            return Outcome(compose(behaviour, request, self.signer, time), str(refusal))
        return Outcome(compose(take(), request, self.signer, time))
