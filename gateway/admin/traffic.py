"""What came of the requests of the last minutes, as the status page shows it. Pure: steps of the history in, values out.

Each outcome is one of three: `ok`; `refused`, which is the caller's matter or Alipay+'s own word (a result F answered 422, a 4xx);
`failed`, which is ours, a peer's, or unknown (what is answered 5xx, and every result U).
"""

from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Final, Literal

from msgspec import Struct

from gateway.admin.counts import Counts, Key, buckets, quantile, total
from gateway.admin.history import STEP, Step
from gateway.alipayplus.results import UNSIGNED_FAILURES
from gateway.errors import FAILURES

Outcome = Literal["ok", "refused", "failed"]

MINUTE: Final = 60.0
HALF: Final = 0.5
NEARLY_ALL: Final = 0.99


class Sums(Struct, frozen=True):
    """What came of the requests of a while; `p50` and `p99` are what they took (seconds), None where there was none."""

    begin: float
    seconds: float
    ok: int
    refused: int
    failed: int
    p50: float | None
    p99: float | None

    @property
    def all(self) -> int:
        """How many they were."""
        return self.ok + self.refused + self.failed


class Flow(Struct, frozen=True):
    """One of the two ways through the gateway: step by step, minute by minute, the last minute, and all together; the oldest first."""

    steps: tuple[Sums, ...]
    minutes: tuple[Sums, ...]
    minute: Sums
    window: Sums


class ResultCount(Struct, frozen=True):
    """How often an SDK call had this result."""

    result_status: str
    result_code: str
    source: str
    outcome: Outcome
    count: int


class Traffic(Struct, frozen=True):
    """The last minutes. `results` stand with the most frequent first; `worst` is the code of most SDK calls that failed in the last minute.

    `logins` are those of the last minute, by outcome. `full`: how often a client had to wait since there were too many connections.
    """

    step_seconds: float
    sdk: Flow
    api: Flow
    results: tuple[ResultCount, ...]
    worst: str | None
    logins: dict[str, int]
    restarts: int
    log_lines_dropped: int
    full: int = 0


def traffic(steps: Sequence[Step]) -> Traffic:
    """Return what the steps tell, the last one being under way."""
    window, minute = together(steps), together(last_minute(steps))
    return Traffic(
        STEP,
        _flow(steps, sdk=True),
        _flow(steps, sdk=False),
        _results(window),
        next((result.result_code for result in _results(minute) if result.outcome == "failed"), None),
        {outcome: round(total(minute, "login", outcome)) for outcome in _LOGINS},
        round(total(window, "restart")),
        round(total(window, "dropped")),
        round(total(window, "full")),
    )


_LOGINS: Final = ("valid", "denied", "forbidden", "missing", "unavailable")


def together(steps: Iterable[Step]) -> Counts:
    """Return the sums of all steps."""
    sums: dict[Key, float] = {}
    for step in steps:
        for key, value in step.counts.items():
            sums[key] = sums.get(key, 0.0) + value
    return sums


def last_minute(steps: Sequence[Step]) -> Sequence[Step]:
    """Return the newest steps that make at least a minute together, or all."""
    seconds = 0.0
    for index in range(len(steps) - 1, -1, -1):
        seconds += steps[index].seconds
        if seconds >= MINUTE:
            return steps[index:]
    return steps


def by_minute(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """Cut the steps into minutes, counted back from now: the first may be shorter."""
    size = round(MINUTE / STEP)
    for begin in range(len(steps) % size - size, len(steps), size):
        if begin + size > 0:
            yield steps[max(begin, 0) : begin + size]


def outcome_of_result(status: str, code: str, source: str) -> Outcome:
    """Judge a result by how it is answered (the table of the app's contract)."""
    if status == "S":
        return "ok"
    if source == "gateway":
        failure = FAILURES.get(code)
        return "refused" if failure is not None and failure.http_status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed"
    return "refused" if status == "F" and code not in UNSIGNED_FAILURES else "failed"


def outcome_of_status(status: str) -> Outcome:
    """Judge an answer of the API by its HTTP status."""
    number = int(status)
    if number >= HTTPStatus.INTERNAL_SERVER_ERROR or not number:
        return "failed"
    return "refused" if number >= HTTPStatus.BAD_REQUEST else "ok"


def _flow(steps: Sequence[Step], *, sdk: bool) -> Flow:
    singly = tuple(_sums([step], sdk=sdk) for step in steps)
    minutes = tuple(_sums(some, sdk=sdk) for some in by_minute(steps))
    return Flow(singly, minutes, _sums(last_minute(steps), sdk=sdk), _sums(steps, sdk=sdk))


def _sums(steps: Sequence[Step], *, sdk: bool) -> Sums:
    counts = together(steps)
    found = {"ok": 0.0, "refused": 0.0, "failed": 0.0}
    for key, value in counts.items():
        if sdk and key[0] == "result":
            found[outcome_of_result(*key[1:])] += value
        elif not sdk and key[0] == "answer":
            found[outcome_of_status(key[1])] += value
    took = buckets(counts, sdk=sdk)
    ok, refused, failed = (round(number) for number in found.values())
    seconds = sum(step.seconds for step in steps)
    return Sums(steps[0].begin, seconds, ok, refused, failed, quantile(HALF, took), quantile(NEARLY_ALL, took))


def _results(window: Counts) -> tuple[ResultCount, ...]:
    found = [_result(key, count) for key, count in window.items() if key[0] == "result"]
    return tuple(sorted(found, key=lambda result: -result.count))


def _result(key: Key, count: float) -> ResultCount:
    _, status, code, source = key
    return ResultCount(status, code, source, outcome_of_result(status, code, source), round(count))
