"""The sections of the status page about what is going on: traffic, failures, peers, workers. Each is a function of the state."""

from http import HTTPStatus
from typing import Final

from gateway.admin import words
from gateway.admin.flows import flow
from gateway.admin.markup import Content, Markup, el
from gateway.admin.pieces import Group, grouped, mark, section, table
from gateway.admin.pools import EndpointShown, PoolShown
from gateway.admin.status import ServiceStatus, WorkerShown
from gateway.admin.traffic import ResultCount
from gateway.errors import FAILURES
from gateway.telemetry.failures import OWN_ANSWER, Failed

_EXECUTED: Final = {"F": "Alipay+ refused it", "U": "Alipay+ does not know; it may have been executed"}
_RESULTS: Final = ("Result", "Status", "From", "#Count", "#Share")
_ENDPOINTS: Final = ("Endpoint", "State", "#Answered", "#Failed", "#In flight", "#Idle", "Role", "Last failure")
_FAILURES: Final = ("Request id", "Time (UTC)", "Route", "#HTTP", "Endpoint", "Reason")
_WORKERS: Final = ("Worker", "State", "#Generation", "#Process", "#Connections", "#In flight", "#Tunnels", "#Up")


def traffic(status: ServiceStatus) -> Markup:
    """Show the charts of the last minutes, and the results of SDK calls."""
    found = status.traffic
    rows = (_result(result, found.sdk.window.all) for result in found.results)
    return section(
        "traffic",
        "Last 10 minutes",
        el("div", flow("SDK calls", found.sdk), flow("API requests", found.api), class_="charts"),
        el("h3", "Results of SDK calls"),
        table("Results of SDK calls in the last 10 minutes", _RESULTS, rows, empty="No SDK call in the last 10 minutes."),
    )


def failures(status: ServiceStatus) -> Markup:
    """Show the last failures, code by code: those first that are no refusals, of them the newest."""
    codes: dict[str, list[Failed]] = {}
    for failed in status.failures:
        codes.setdefault(failed.code, []).append(failed)
    groups = (_code(code, codes[code], status.at) for code in sorted(codes, key=lambda code: not _is_bad(codes[code][0])))
    caption = "The last failed requests of each code"
    return section("failures", "Last failures by code", grouped(caption, _FAILURES, groups, empty="None since the start."))


def pools(status: ServiceStatus) -> Markup:
    """Show the peers."""
    caption, groups = "Endpoints, with the requests of the last minute", map(_pool, status.pools)
    return section("pools", "Peers, last minute", grouped(caption, _ENDPOINTS, groups, empty="No worker has told yet."))


def workers(status: ServiceStatus) -> Markup:
    """Show the workers."""
    rows = (_worker(worker, status) for worker in status.workers)
    return section("workers", "Workers", table("Worker processes", _WORKERS, rows, empty="No worker."))


def _result(result: ResultCount, of: int) -> tuple[Content, ...]:
    name = el("span", el("code", result.result_code), class_=f"key {result.outcome}")
    return (name, result.result_status, result.source, words.number(result.count), words.share(result.count, of))


def _code(code: str, failures: list[Failed], now: float) -> Group:
    newest, known = failures[0], FAILURES.get(code)
    title = mark("bad" if _is_bad(newest) else "warn", "5xx of an upstream's own" if code == OWN_ANSWER else el("code", code))
    meaning = known.message if known is not None else _EXECUTED.get(newest.result_status)
    said = ", ".join(part for part in (meaning, f"last {words.span(now - newest.time)} ago") if part)
    return Group((title, " ", said), (_failed(failed, now) for failed in failures))


def _is_bad(failed: Failed) -> bool:
    return failed.status >= HTTPStatus.INTERNAL_SERVER_ERROR or failed.result_status == "U"


def _failed(failed: Failed, now: float) -> tuple[Content, ...]:
    return (
        el("code", failed.request_id, class_="id"),
        words.moment(failed.time, now),
        el("code", failed.route),
        failed.status or words.NOTHING,
        failed.endpoint or "",
        failed.reason or f"answered by {failed.source}",
    )


def _pool(pool: PoolShown) -> Group:
    waiting = f" – {pool.waiting} waiting for a place" if pool.waiting else ""  # noqa: RUF001  a dash
    return Group((pool.name, waiting), map(_endpoint, pool.endpoints))


def _endpoint(endpoint: EndpointShown) -> tuple[Content, ...]:
    counts = (words.number(value) for value in (endpoint.ok, endpoint.failed))
    watched = (words.number(value) if endpoint.workers else words.NOTHING for value in (endpoint.in_flight, endpoint.idle))
    role = ("backup" if endpoint.backup else "main") + (f", weight {endpoint.weight}" if endpoint.weight != 1 else "")
    return (el("code", endpoint.name), _endpoint_state(endpoint), *counts, *watched, role, endpoint.last_failure or "")


def _endpoint_state(endpoint: EndpointShown) -> Markup:
    where = f" in {endpoint.out} of {endpoint.workers} workers" if 0 < endpoint.out < endpoint.workers else ""
    until = f", {endpoint.ejected_for:.0f} s more" if endpoint.state == "ejected" else ""
    return mark("ok" if endpoint.state == "in use" else "bad", f"{endpoint.state}{where}{until}")


def _worker(worker: WorkerShown, status: ServiceStatus) -> tuple[Content, ...]:
    is_former = worker.generation != status.generation
    state = mark("ok", "serves") if worker.serves else mark("warn", "drains" if is_former or not status.ready else "starts")
    told = worker.told
    numbers = (told.connections, told.in_flight, told.tunnels) if told is not None else (None, None, None)
    shown = (words.number(value) for value in numbers)
    return (f"Worker {worker.slot}", state, worker.generation, worker.pid, *shown, words.span(status.at - worker.since))
