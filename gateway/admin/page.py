"""The status page: one document that says all without a script, and that its script asks for again and again.

The script (`assets/status.js`) puts the newer page in the place of the older, so nothing is rendered in two ways.
"""

from functools import cache
from importlib import resources
from typing import Final
from urllib.parse import quote

from gateway.admin import activity, settings, words
from gateway.admin.markup import Markup, el
from gateway.admin.status import Concern, ServiceStatus, State

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REFRESH: Final = 5
"""Seconds between two loads where there is no script."""

_HEADLINES: Final[dict[State, tuple[str, str, str]]] = {
    "ok": ("✓", "All is well", "#1a7f4b"),
    "attention": ("!", "Needs attention", "#b26a00"),
    "failing": ("✕", "Failing", "#c62828"),
    "not ready": ("✕", "Not ready", "#c62828"),
}
_BODY: Final = (
    activity.traffic,
    activity.failures,
    activity.pools,
    activity.workers,
    settings.configuration,
    settings.keys,
    settings.certificates,
    settings.routes,
    settings.limits,
)


def page(status: ServiceStatus) -> str:
    """Return the page."""
    return "<!doctype html>\n" + el("html", _head(status), _body(status), lang="en", data_version=status.version)


@cache
def asset(name: str) -> bytes:
    """Return a file that the page names."""
    return resources.files("gateway.admin").joinpath("assets", name).read_bytes()


def _head(status: ServiceStatus) -> Markup:
    mark, headline, colour = _HEADLINES[status.state]
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("title", f"{mark} {headline} – {status.host}"),  # noqa: RUF001  a dash
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href=_icon(colour)),
        el("link", rel="stylesheet", href="status.css"),
        el("noscript", el("meta", http_equiv="refresh", content=REFRESH)),
        el("script", src="status.js", defer=True),
    )


def _icon(colour: str) -> str:
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="4" fill="{colour}"/></svg>'
    return f"data:image/svg+xml,{quote(drawing)}"


def _body(status: ServiceStatus) -> Markup:
    links = (("metrics", "Metrics"), ("status.json", "JSON"), ("readyz", "Readiness"))
    return el(
        "body",
        el(
            "header",
            el("h1", "Gateway ", el("span", status.host)),
            el("nav", (el("a", text, href=path) for path, text in links), aria_label="Other forms"),
        ),
        el("main", _state(status), (part(status) for part in _BODY)),
        el("footer", el("p", f"alipayplus-gateway {status.version}. Times are UTC. Read-only.")),
    )


def _state(status: ServiceStatus) -> Markup:
    mark, headline, _ = _HEADLINES[status.state]
    serving = sum(worker.serves for worker in status.workers if worker.generation == status.generation)
    facts = (
        f"{serving} of {status.slots} workers serve · generation {status.generation} · up {words.span(status.at - status.since)} · as of "
    )
    sign = el("span", el("span", mark), class_="sign", aria_hidden="true")
    return el(
        "section",
        el("p", sign, el("strong", headline), id="headline", role="status", aria_live="polite"),
        el("ul", map(_concern, status.concerns), class_="concerns") if status.concerns else None,
        el("p", facts, words.moment(status.at, status.at), class_="facts"),
        id="state",
        class_=f"state {status.state.replace(' ', '-')}",
        aria_label="State",
    )


def _concern(concern: Concern) -> Markup:
    return el("li", el("a", concern.text, href=f"#{concern.section}"), class_=concern.level)
