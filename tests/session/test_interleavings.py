"""Whatever comes between, a check's verdict is one that the auth service gave on just this credential, within ttl of the check."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.session import Check, Sessions
from gateway.session.flight import Flight
from gateway.session.message import Message
from gateway.upstream import Answer, ConnectionLost, Done, UpstreamError
from gateway.upstream.connection import settle
from tests.session.auth_server import REQUEST_ID, TRACEPARENT, WAITING, Clock, session
from tests.upstream.answers import an_answer

TTL: Final = 10.0
NEGATIVE_TTL: Final = 4.0
TOKENS: Final = ("a", "A")
USERS: Final = ("alice", "bob")
FAILURES: Final = (an_answer(500), an_answer(200), ConnectionLost("lost"))


@dataclass
class HeldPeer:
    """An auth service that answers when it is told to. `calls` are its calls: the token in it, its time, whom to tell."""

    clock: Clock
    calls: list[tuple[str, float, Done]] = field(default_factory=list)
    has_place: bool = True

    def begin(self, message: Message, done: Done) -> bool:
        if self.has_place:
            self._take(message, done)
        return self.has_place

    async def exchange(self, message: Message, flight: Flight, *, again: bool = False) -> Answer:
        flight.has_place = True
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._take(message, lambda outcome: settle(waiter, outcome))
        return await waiter

    def observe(self, outcome: Answer | UpstreamError) -> None:
        """Count nothing."""

    async def close(self) -> None:
        while self.calls:
            self.calls.pop()[2](ConnectionLost("closed"))

    def _take(self, message: Message, done: Done) -> None:
        token = message.head.partition(b"Authorization: ")[2].partition(b"\r\n")[0]
        self.calls.append((token.decode(), self.clock.now, done))


@dataclass
class Asked:
    """One check: its token, when it began or the call began that it may share, and the task."""

    token: str
    at: float
    task: "asyncio.Task[Check]"


class Interleavings(RuleBasedStateMachine):
    """Logins that change hands, calls answered late or not at all, askers who leave, and time (faults B8, B10, G13)."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        cache = {"ttl": TTL, "negative_ttl": NEGATIVE_TTL, "max_entries": 1}
        section = {"url": "http://auth.example/", "customer_id": {"header": "X-Customer-Id"}, "timeout": WAITING}
        self.sessions = Sessions(session(section, cache=cache), clock=self.clock)
        self.peer = HeldPeer(self.clock)
        self.sessions._peer = self.peer  # type: ignore[assignment]
        self.asked: list[Asked] = []
        self.logins: dict[str, list[tuple[float, str | None]]] = {token: [(0.0, None)] for token in TOKENS}

    def turn(self) -> None:
        async def turns() -> None:
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    @rule(token=st.sampled_from(TOKENS), user=st.none() | st.sampled_from(USERS))
    def log_in_or_out(self, token: str, user: str | None) -> None:
        self.logins[token].append((self.clock.now, user))

    @rule(seconds=st.sampled_from([1.0, NEGATIVE_TTL + 1, TTL + 1]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(token=st.sampled_from(TOKENS), has_place=st.booleans())
    def ask(self, token: str, *, has_place: bool) -> None:
        self.peer.has_place = has_place
        check = self.sessions.check([(b"authorization", token.encode())], "sdk", request_id=REQUEST_ID, traceparent=lambda: TRACEPARENT)
        shared = [came for called, came, _ in self.peer.calls if called == token]
        self.asked.append(Asked(token, min([self.clock.now, *shared]), self.loop.create_task(check)))
        self.turn()

    @precondition(lambda self: self.peer.calls)
    @rule(data=st.data(), is_old=st.booleans(), failure=st.sampled_from([None, None, None, *FAILURES]))
    def answer(self, data: st.DataObject, failure: Answer | UpstreamError | None, *, is_old: bool) -> None:
        """Answer what is so now or was so when the call came, or fail."""
        token, came, done = self.peer.calls.pop(data.draw(st.integers(0, len(self.peer.calls) - 1)))
        user = next(user for at, user in reversed(self.logins[token]) if not is_old or at <= came)
        answer = an_answer(200, (("X-Customer-Id", user),)) if user is not None else an_answer(401)
        self.loop.call_soon(done, failure or answer)
        self.turn()

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.asked)).task.cancel()
        self.turn()

    @invariant()
    def who_is_done_was_told_what_was_so(self) -> None:
        for asked in [asked for asked in self.asked if asked.task.done()]:
            self.asked.remove(asked)
            if asked.task.cancelled():
                continue
            check = asked.task.result()
            if check.outcome == "valid":
                assert check.identity is not None
                assert check.identity.customer_id in self.users(asked.token, asked.at - TTL)
            elif check.outcome == "denied":
                assert None in self.users(asked.token, asked.at - NEGATIVE_TTL)

    def users(self, token: str, since: float) -> set[str | None]:
        """Return who was logged in by this token, None if nobody was, at any time since then."""
        logins = self.logins[token]
        ends = [at for at, _ in logins[1:]] + [self.clock.now]
        return {user for (_, user), end in zip(logins, ends, strict=True) if end >= since}

    def teardown(self) -> None:
        self.loop.run_until_complete(self.sessions.close())
        self.turn()
        assert all(asked.task.done() for asked in self.asked)
        assert not self.sessions._flights
        assert not self.sessions._tasks
        self.loop.close()


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(deadline=None, max_examples=200, stateful_step_count=40)
