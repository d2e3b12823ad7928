"""The verdicts that are kept for a while, by the keyed hash of their credential.

Bounded: the least recently used go first. The time is an argument, of a monotonic clock: a jump of the wall clock changes nothing.
How long a verdict may be kept stands in `freshness`.
"""

from collections import OrderedDict

from msgspec import Struct

from gateway.session.check import Verdict


class _Entry(Struct, frozen=True, gc=False):
    verdict: Verdict
    until: float


class Cache:
    """At most `max_entries` verdicts."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: float) -> Verdict | None:
        """Return what is kept under this key at this time, if anything."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.until:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry.verdict

    def put(self, key: bytes, verdict: Verdict, until: float) -> None:
        """Keep a verdict until this time; the least recently used one goes if there are too many."""
        self._entries[key] = _Entry(verdict, until)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def forget_half(self) -> None:
        """Let go of the half that was used the longest ago, for what is more in need of memory."""
        for _ in range((len(self._entries) + 1) // 2):
            self._entries.popitem(last=False)
