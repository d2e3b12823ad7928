"""How long a verdict may be kept: the configured time, at most what the answer's Cache-Control and `exp` allow.

Pure. What is kept is kept per credential, so `private` is no obstacle. Where an answer contradicts itself the shortest time counts.
"""

import re
from typing import Final

from gateway.session.check import Verdict
from gateway.upstream import Answer

# RFC 9110 section 5.6.6 and RFC 9111 section 5.2: directives with an optional argument, a token or a quoted string.
_DIRECTIVE: Final = re.compile(r'([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?')
_SECONDS: Final = re.compile(r"[0-9]{1,10}")


def lifetime(answer: Answer) -> float | None:
    """Return the seconds for which Cache-Control (RFC 9111) lets this answer be kept, its Age deducted; None where it does not say.

    `no-store` and `no-cache` (with field names too), and a time that cannot be read, are 0. `s-maxage` counts like `max-age`.
    """
    limits: list[float] = []
    for value in answer.all("cache-control"):
        for name, quoted, plain in _DIRECTIVE.findall(value):
            directive = name.lower()
            if directive in ("no-store", "no-cache"):
                return 0.0
            if directive in ("max-age", "s-maxage"):
                limits.append(_seconds(quoted or plain))
    return max(0.0, min(limits) - _age(answer)) if limits else None


def _seconds(text: str) -> float:
    return float(text) if _SECONDS.fullmatch(text) else 0.0


def _age(answer: Answer) -> float:
    return max((_seconds(value) for value in answer.all("age")), default=0.0)


def keep_for(verdict: Verdict, answer: Answer, *, ttl: float, negative_ttl: float, wall_time: float) -> float:
    """Return for how many seconds a verdict may be kept, 0 for not at all. Unavailable is no verdict and never kept."""
    if verdict.outcome == "unavailable":
        return 0.0
    configured = ttl if verdict.outcome == "valid" else negative_ttl
    allowed = lifetime(answer)
    times = [configured] if allowed is None else [configured, allowed]
    if verdict.expires_at is not None:
        times.append(verdict.expires_at - wall_time)
    return max(0.0, min(times))
