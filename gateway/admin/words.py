"""Numbers and times as people read them. Times are UNIX seconds, shown in UTC, as in the logs."""

from datetime import UTC, datetime
from typing import Final

from gateway.admin.markup import Markup, el

NOTHING: Final = "–"  # noqa: RUF001  a dash where there is no number

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_TEN, _HUNDRED, _THOUSAND = 10, 100, 1000


def number(value: float | None) -> str:
    """Write a count, with its thousands apart."""
    return NOTHING if value is None else f"{value:,.0f}"


def rate(count: float, seconds: float) -> str:
    """Write how many there are in a second."""
    value = count / seconds if seconds else 0.0
    return f"{value:,.0f}/s" if value >= _TEN or not value else f"{value:.1f}/s" if value >= 0.1 else f"{value:.2f}/s"  # noqa: PLR2004  digits


def share(part: float, whole: float) -> str:
    """Write a share in per cent; what is not nothing is never 0 %."""
    if not part or not whole:
        return "0 %"
    percent = _HUNDRED * part / whole
    return "< 0.1 %" if percent < 0.1 else f"{percent:.1f} %" if percent < _TEN else f"{percent:.0f} %"  # noqa: PLR2004  digits


def took(seconds: float | None) -> str:
    """Write what a request took."""
    if seconds is None:
        return NOTHING
    milliseconds = seconds * _THOUSAND
    if milliseconds < _TEN:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:.0f} ms" if milliseconds < _THOUSAND else f"{seconds:.1f} s"


def span(seconds: float) -> str:
    """Write a span of time by its two largest units: `3 d 4 h`."""
    left, parts = max(0, int(seconds)), list[str]()
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}")
        if len(parts) == 2:  # noqa: PLR2004  the two largest
            break
    return " ".join(part for part in parts if not part.startswith("0 ")) or "0 s"


def moment(at: float, now: float) -> Markup:
    """Write a moment, with the day where it is not today's: `22:41:07`."""
    when, today = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(now, UTC).date()
    shown = when.strftime("%H:%M:%S" if when.date() == today else "%Y-%m-%d %H:%M")
    return el("time", shown, datetime=when.isoformat(timespec="seconds"))


def day(at: float) -> Markup:
    """Write a day."""
    when = datetime.fromtimestamp(at, UTC)
    return el("time", when.strftime("%Y-%m-%d"), datetime=when.isoformat(timespec="seconds"))
