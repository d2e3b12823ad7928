from collections.abc import Iterable

import pytest

from gateway.edge.routes import Route, route_faults
from gateway.edge.routing import RouteTable

WIDE = Route("/", "wallet")


def faults(*routes: Route, sdk_prefix: str = "/alipayplus") -> list[tuple[int | str, int | str, bool]]:
    return [(fault.path[2], fault.path[3], fault.warning) for fault in route_faults(dict(enumerate(routes)), sdk_prefix)]


def narrowed(prefix: str, *, hosts: Iterable[str] = (), methods: Iterable[str] = ()) -> Route:
    return Route(prefix, "wallet", frozenset(hosts), frozenset(methods))


@pytest.mark.parametrize("prefix", ["/", "/a", "/a/", "/a/b.c", "/.well-known", "/a.", "/...", "/alipayplusx", "/Alipayplus", "/a@b:c,d"])
def test_prefixes_that_have_one_reading_are_fine(prefix: str) -> None:
    assert not faults(Route(prefix, "wallet"))


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "a",
        "//",
        "/a//b",
        "/a//",
        "/..",
        "/a/./b",
        "/a/..",
        "/a%62",
        "/a;b",
        "/a?b",
        "/a#b",
        "/a\\b",
        "/a b",
        "/\u00e9",
        "/a\n",
        "http://h/",
    ],
)
def test_prefixes_that_may_be_read_in_two_ways_are_faults(prefix: str) -> None:
    assert faults(Route(prefix, "wallet")) == [(0, "prefix", False)]


@pytest.mark.parametrize("prefix", ["/api/*", "/*", "/a*/b"])
def test_a_prefix_that_is_meant_as_a_pattern_is_a_warning(prefix: str) -> None:
    assert faults(Route(prefix, "wallet")) == [(0, "prefix", True)]


@pytest.mark.parametrize("prefix", ["/alipayplus", "/alipayplus/", "/alipayplus/v2"])
def test_a_route_below_the_sdk_prefix_is_a_fault(prefix: str) -> None:
    assert faults(WIDE, Route(prefix, "wallet")) == [(1, "prefix", False)]


@pytest.mark.parametrize("host", ["API.example", "api.example:80", "a/b", "a@b", "", "api.example.", "*.example"])
def test_hosts_that_could_never_match_are_faults(host: str) -> None:
    assert faults(narrowed("/", hosts=[host])) == [(0, "host", False)]


@pytest.mark.parametrize("method", ["", "GET POST", "G\u00cbT", "CONNECT"])
def test_methods_that_could_never_match_are_faults(method: str) -> None:
    assert faults(narrowed("/", methods=[method])) == [(0, "methods", False)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (narrowed("/a"), narrowed("/a/")),
        (narrowed("/a", methods=["GET", "POST"]), narrowed("/a", methods=["POST", "PUT"])),
        (narrowed("/a", hosts=["a", "b"]), narrowed("/a", hosts=["b"])),
        (narrowed("/a", hosts=["a"], methods=["GET"]), narrowed("/a", hosts=["a"], methods=["GET", "PUT"])),
    ],
)
def test_two_routes_for_the_same_requests_are_a_fault(first: Route, second: Route) -> None:
    assert faults(first, second) == [(1, "prefix", False)]


def test_routes_that_are_narrowed_apart_are_fine() -> None:
    assert not faults(
        narrowed("/a"),
        narrowed("/a", methods=["GET"]),
        narrowed("/a", methods=["PUT"]),
        narrowed("/a", hosts=["a"]),
        narrowed("/a", hosts=["b"], methods=["GET"]),
    )


def test_a_stripped_prefix_that_opens_what_another_route_guards_is_a_warning() -> None:
    guarded = Route("/admin", "wallet", session="required")
    assert faults(guarded, Route("/public", "wallet", session="none", strip_prefix=True)) == [(1, "strip_prefix", True)]
    assert not faults(guarded, Route("/public", "other", session="none", strip_prefix=True))
    assert not faults(guarded, Route("/public", "wallet", session="required", strip_prefix=True))
    assert not faults(guarded, Route("/public", "wallet", session="none"))


def test_a_table_is_not_made_of_routes_with_faults() -> None:
    with pytest.raises(ValueError, match="route 1: never reached"):
        RouteTable([WIDE, Route("/alipayplus/x", "wallet")], "/alipayplus")
