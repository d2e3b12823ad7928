"""The charts of one way through the gateway, with their numbers in words beside them and minute by minute in a table."""

from typing import Final

from gateway.admin import charts, words
from gateway.admin.history import STEP
from gateway.admin.markup import Content, Markup, el
from gateway.admin.pieces import table
from gateway.admin.traffic import Flow, Sums

_LINES: Final = (("10ms", "10 ms"), ("100ms", "100 ms"), ("1s", "1 s"), ("10s", "10 s"))
_MINUTES: Final = ("Minute", "#Ok", "#Refused", "#Failed", "#Half within", "#99 % within")


def flow(name: str, shown: Flow) -> Markup:
    """Return both charts of a flow, and its minutes."""
    return el("div", _outcomes(name, shown), _latencies(name, shown), _minutes(name, shown), class_="flow")


def _outcomes(name: str, shown: Flow) -> Markup:
    minute, window = shown.minute, shown.window
    counts = ", ".join(f"{words.number(count)} {outcome}" for outcome, count in _named(window))
    drawing = charts.outcomes(shown.steps, f"{name} of the last 10 minutes: {counts}")
    most = f"{words.number(max((step.all for step in shown.steps), default=0))} in {STEP:.0f} s"
    return _figure(
        name,
        (el("b", words.rate(minute.all, minute.seconds)), _legend(minute)),
        (drawing, el("span", most, class_="y top", aria_hidden="true")),
    )


def _latencies(name: str, shown: Flow) -> Markup:
    minute, window = shown.minute, shown.window
    said = f"{name} of the last 10 minutes: half took at most {words.took(window.p50)}, 99 % at most {words.took(window.p99)}"
    lines = (el("span", text, class_=f"y at-{at}", aria_hidden="true") for at, text in _LINES)
    legend = (el("span", "99 % within", class_="key p99"), el("span", f"half within {words.took(minute.p50)}", class_="key p50"))
    return _figure(
        f"{name}: time",
        (el("b", words.took(minute.p99)), el("span", legend, class_="legend")),
        (charts.latencies(shown.steps, said), lines),
    )


def _figure(title: str, numbers: Content, plot: Content) -> Markup:
    axis = el("p", el("span", "10 min ago"), el("span", "now"), class_="x", aria_hidden="true")
    return el("figure", el("figcaption", el("h3", title), el("p", numbers, class_="big")), el("div", plot, class_="plot"), axis)


def _legend(minute: Sums) -> Markup:
    parts = (el("span", f"{words.share(count, minute.all)} {outcome}", class_=f"key {outcome}") for outcome, count in _named(minute))
    return el("span", parts, class_="legend")


def _named(sums: Sums) -> tuple[tuple[str, int], ...]:
    return (("ok", sums.ok), ("refused", sums.refused), ("failed", sums.failed))


def _minutes(name: str, shown: Flow) -> Markup:
    last = len(shown.minutes) - 1
    rows = [_minute("now" if index == last else f"{last - index} min ago", one) for index, one in enumerate(shown.minutes)]
    return el("details", el("summary", f"{name} in numbers"), table(f"{name}, minute by minute", _MINUTES, reversed(rows), empty="None."))


def _minute(when: str, sums: Sums) -> tuple[Content, ...]:
    counts = (words.number(count) for _, count in _named(sums))
    return (when, *counts, words.took(sums.p50), words.took(sums.p99))
