"""The sections of the status page about what is in force: the last reload, keys, certificates, routes, limits.

Each is a function of the state.
"""

from typing import Final

from gateway.admin import words
from gateway.admin.in_force import CertificateShown, KeyShown, RouteShown
from gateway.admin.markup import Content, Markup, el
from gateway.admin.pieces import mark, section, table
from gateway.admin.status import ServiceStatus
from gateway.sdkproxy.contract import ENDPOINT

_USES: Final = {"signing": "signs", "next": "ours, ready", "verification": "of Alipay+"}
_KEYS: Final = ("Key", "#Version", "#Bits", "#File's age", "Fingerprint (SHA-256)", "File")
_CERTIFICATES: Final = ("Certificate", "#Ends", "#In", "File")
_ROUTES: Final = ("Prefix", "Upstream", "Session", "Host", "Methods", "Prefix is")
_LIMITS: Final = ("Limit", "#Value", "#Now", "Meaning")


def configuration(status: ServiceStatus) -> Markup:
    """Show the last reload and what it said."""
    reload, now = status.reload, status.at
    in_use = (words.moment(reload.in_use_since, now), f", for {words.span(now - reload.in_use_since)}")
    failed = (mark("bad", "failed"), " at ", words.moment(reload.at, now), "; the former configuration stays in use")
    facts = (
        ("Last reload", (mark("ok", "ok"), " at ", words.moment(reload.at, now)) if reload.ok else failed),
        ("In use since", in_use),
        ("File", el("code", status.config)),
        ("Listening on", [(el("code", one), " ") for one in status.listen]),
        ("SDK path", el("code", f"{status.sdk_prefix}{ENDPOINT}")),
    )
    listed = el("dl", ((el("dt", name), el("dd", value)) for name, value in facts))
    return section("reload", "Configuration", listed, _lines("Faults", reload.faults, "bad"), _lines("Warnings", status.warnings, "warn"))


def keys(status: ServiceStatus) -> Markup:
    """Show the keys."""
    rows = (_key(key, status.at) for key in status.in_force.keys)
    return section("keys", "Keys", table("Keys in force", _KEYS, rows, empty="Not read yet."))


def certificates(status: ServiceStatus) -> Markup:
    """Show when certificates end."""
    rows = (_certificate(one, status.at) for one in status.in_force.certificates)
    shown = table("Certificates in force", _CERTIFICATES, rows, empty="The configuration names none.")
    return section("certificates", "Certificates", shown)


def routes(status: ServiceStatus) -> Markup:
    """Show the routes of the MPP's API."""
    shown = table("Routes of the wallet's API", _ROUTES, map(_route, status.in_force.routes), empty="No API is configured: SDK calls only.")
    return section("routes", "Routes", shown)


def limits(status: ServiceStatus) -> Markup:
    """Show the limits, and how far they are used where that is known."""
    used = _used(status)
    rows = ((el("code", limit.key), limit.value, used.get(limit.key, ""), limit.meaning) for limit in status.in_force.limits)
    return section("limits", "Limits in force", table("Limits, for each worker", _LIMITS, rows, empty="Not read yet."))


def _lines(title: str, lines: tuple[str, ...], level: str) -> Markup | None:
    return el("div", el("h3", title), el("ul", (el("li", line) for line in lines)), class_=f"lines {level}") if lines else None


def _key(key: KeyShown, now: float) -> tuple[Content, ...]:
    age = words.span(now - key.changed) if key.changed is not None else words.NOTHING
    return (_USES[key.use], key.version, key.bits, age, el("code", key.fingerprint, class_="id"), el("code", key.file))


def _certificate(certificate: CertificateShown, now: float) -> tuple[Content, ...]:
    left = words.span(certificate.ends - now) if certificate.ends > now else mark("bad", "expired")
    return (el("code", certificate.key), words.day(certificate.ends), left, el("code", certificate.file))


def _route(route: RouteShown) -> tuple[Content, ...]:
    narrowed = (", ".join(names) or "any" for names in (route.host, route.methods))
    return (el("code", route.prefix), route.upstream, route.session, *narrowed, "cut off" if route.strip_prefix else "kept")


def _used(status: ServiceStatus) -> dict[str, str]:
    calls = status.calls
    connections = max((worker.told.connections for worker in status.workers if worker.told is not None), default=0)
    in_flight = f"{words.number(calls.in_flight)} of {words.number(calls.max_in_flight)} in all, {calls.waiting} waiting"
    return {"server.limits.connections": words.number(connections), "alipayplus.max_in_flight": in_flight}
