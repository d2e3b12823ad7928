"""Which of several endpoints gets a request. No clock, no I/O: each policy sees the candidates and how busy they are."""

from collections.abc import Collection, Sequence
from typing import Final, Literal, Protocol, TypeVar


class Candidate(Protocol):
    """What a policy sees of an endpoint. Candidates are told apart by identity."""

    @property
    def weight(self) -> int:
        """Its share of the requests beside the others; at least 1."""

    @property
    def backup(self) -> bool:
        """Whether it is only for when no other can be used."""

    @property
    def in_flight(self) -> int:
        """How many requests it has now."""


C = TypeVar("C", bound=Candidate)


class Balance(Protocol):
    """A policy. It belongs to one set of endpoints, of which any part may be offered each time."""

    def choose(self, candidates: Sequence[C]) -> C:
        """Return one of the candidates, of which there is at least one."""


def candidates(available: Sequence[C], tried: Collection[C] = ()) -> Sequence[C]:
    """Return those to choose among: the available ones but for those already tried; backups only when there is no other."""
    untried = [candidate for candidate in available if candidate not in tried] if tried else available
    return [candidate for candidate in untried if not candidate.backup] or untried


class RoundRobin:
    """Smooth weighted round robin, as in nginx: with weights 5, 1, 1 the order is a a b a c a a."""

    def __init__(self) -> None:
        self._owed: dict[Candidate, int] = {}

    def choose(self, candidates: Sequence[C]) -> C:
        """Return the candidate whose turn it is. Over a run of as many choices as the weights' sum each has had its weight."""
        owed = self._owed
        for candidate in candidates:
            owed[candidate] = owed.get(candidate, 0) + candidate.weight
        chosen = max(candidates, key=owed.__getitem__)
        owed[chosen] -= sum([candidate.weight for candidate in candidates])
        return chosen


class LeastRequests:
    """The one with the fewest requests in flight for its weight; round robin where several have."""

    def __init__(self) -> None:
        self._ties = RoundRobin()

    def choose(self, candidates: Sequence[C]) -> C:
        """Return the least busy candidate."""
        load = [candidate.in_flight / candidate.weight for candidate in candidates]
        least = min(load)
        idlest = [candidate for candidate, its in zip(candidates, load, strict=True) if its == least]
        return idlest[0] if len(idlest) == 1 else self._ties.choose(idlest)


class Ordered:
    """The first: the endpoints stand in order of preference."""

    def choose(self, candidates: Sequence[C]) -> C:
        """Return the most preferred candidate."""
        return candidates[0]


BALANCES: Final[dict[Literal["least_requests", "round_robin", "ordered"], type[Balance]]] = {
    "least_requests": LeastRequests,
    "round_robin": RoundRobin,
    "ordered": Ordered,
}
"""The policies by their name in the configuration; `ordered` is for Alipay+, whose hosts are a list in order of preference."""
