"""`gateway routes`: what becomes of one request: which route it takes, which session rule holds, and what would be sent upstream."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.commands.input import USAGE, refuse, refuse_configuration
from gateway.config import ApiRoute, Config, ConfigError, HeaderChanges, Upstream, load
from gateway.config.rules import METHOD
from gateway.edge.routing import RouteTable, explain
from gateway.passthrough.ways import api_routes, check_api, identity_names
from gateway.sdkproxy.contract import ENDPOINT

_SESSIONS: Final = {
    "required": "without a valid login it is answered with 401",
    "optional": "a valid login gives the identity; without one the request goes on without",
    "none": "not checked",
}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `routes`."""
    parser = subparsers.add_parser(
        "routes",
        help="explain which route a request takes and what would be sent",
        description="Explain what becomes of a request: its route, the session rule, and what would be sent upstream. Nothing is sent.",
    )
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, required=True, help="the configuration file")
    parser.add_argument("method", metavar="METHOD", help="such as GET")
    parser.add_argument("url", metavar="URL", help="as the client would call it, or a path such as /wallet/balance?x=1")
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Print the explanation and return 0, or every fault of the configuration and return 3; 2 for what is no method."""
    if complaint := METHOD.complaint(options.method):
        return refuse(f"METHOD: {complaint}", USAGE)
    try:
        config = load(options.config, checks=(check_api,)).config
    except ConfigError as error:
        return refuse_configuration(error)
    sys.stdout.writelines(f"{line}\n" for line in explanation(config, options.method, options.url))
    return 0


def explanation(config: Config, method: str, url: str) -> Iterator[str]:
    """Give the lines that explain what becomes of a request."""
    routes = api_routes(config)
    explained = explain(RouteTable(routes, config.sdk_proxy.path_prefix), method, url)
    yield from str(explained).splitlines()
    if explained.outcome == "sdk":
        yield from _sdk_answer(config.sdk_proxy.path_prefix + ENDPOINT, method, explained.path)
    if explained.route is not None and config.api is not None:
        settings = config.api.routes[routes.index(explained.route)]
        yield from _details(config, settings, config.api.upstreams[settings.upstream])


def _sdk_answer(resource: str, method: str, path: str) -> Iterator[str]:
    """Say what is wrong with the path or the method of an SDK request."""
    if path != resource:
        yield f"answer: 404 NOT_FOUND; the one SDK path is {resource}"
    elif method != "POST":
        yield "answer: 405 METHOD_NOT_ALLOWED; SDK requests are POST"


def _details(config: Config, route: ApiRoute, upstream: Upstream) -> Iterator[str]:
    yield f"login: {_SESSIONS[route.session]}"
    yield f"servers: {', '.join(server.url for server in upstream.servers)}"
    yield f"host: {'the name of the server' if upstream.host_header == 'upstream' else 'as the client sent it'}"
    yield f"largest body: {route.max_body}"
    yield f"removed from the request, in every spelling: {', '.join(sorted(identity_names(config)))}"
    if route.session != "none":
        more = config.session.forward.forward_headers if config.session.forward is not None else ()
        yield f"set by the login: {', '.join((config.session.identity_header, *more))}"
    yield "written anew: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Real-IP, X-Request-Id, traceparent, tracestate"
    yield from _changes("request", route.request_headers)
    yield from _changes("answer", route.response_headers)


def _changes(message: str, changes: HeaderChanges) -> Iterator[str]:
    yield from (f"{message} header removed: {name}" for name in changes.remove)
    yield from (f"{message} header set: {name}: {value}" for name, value in changes.set.items())
    yield from (f"{message} header added: {name}: {value}" for name, value in changes.add.items())
