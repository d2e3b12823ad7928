from typing import Any

import pytest
from msgspec.structs import replace

from gateway.config import ApiRoute, CustomerId, Forward, HeaderChanges, Introspection, Secret, Session, Size
from gateway.passthrough.ways import api_routes, api_ways, check_api, identity_names
from tests.passthrough.rig import configuration, route, upstream

UPSTREAMS = {"wallet": upstream("http://127.0.0.1:1"), "other": upstream("http://127.0.0.1:2")}


def test_routes_keep_their_order_and_what_narrows_them() -> None:
    config = configuration([route("/a", host=("x.example",), methods=("GET",)), route("/b", "other", session="optional")], UPSTREAMS)
    one, two = api_routes(config)
    assert (one.prefix, one.upstream, one.session) == ("/a", "wallet", "none")
    assert (one.hosts, one.methods) == (frozenset({"x.example"}), frozenset({"GET"}))
    assert (two.prefix, two.upstream, two.session) == ("/b", "other", "optional")
    assert (two.hosts, two.methods) == (frozenset(), frozenset())


def test_each_route_has_its_own_way() -> None:
    config = configuration([route("/a", max_body=Size(5)), route("/b", "other")], UPSTREAMS)
    routes = api_routes(config)
    clusters: dict[str, Any] = {"wallet": object(), "other": object()}
    ways = api_ways(config, routes, clusters, set())
    assert [ways[each].upstream for each in routes] == [clusters["wallet"], clusters["other"]]
    assert [ways[each].max_body for each in routes] == [5, 16 << 20]
    assert ways[routes[0]].timeouts.body_idle == config.server.limits.body_idle_timeout


@pytest.mark.parametrize(
    ("faulty", "key", "message"),
    [
        (route("/a/../b"), "prefix", "write a path such as /wallet"),
        (route("/alipayplus/x"), "prefix", "never reached"),
        (route("/", request_headers=HeaderChanges(set={"X-Customer-Id": "1"})), "request_headers", "the gateway's own"),
        (route("/", request_headers=HeaderChanges(add={"x_auth_id": "1"})), "request_headers", "the gateway's own"),
        (route("/", request_headers=HeaderChanges(remove=("X-Customer-Tier",))), "request_headers", "the gateway's own"),
        (route("/", response_headers=HeaderChanges(set={"Content-Length": "1"})), "response_headers", "the gateway's own"),
        (route("/", response_headers=HeaderChanges(set={"X-Request-Id": "1"})), "response_headers", "the gateway's own"),
    ],
)
def test_what_is_wrong_with_a_route_is_found_at_its_key(faulty: ApiRoute, key: str, message: str) -> None:
    config = configuration([route("/fine"), faulty], UPSTREAMS)
    (fault,) = check_api(config)
    assert fault.path == ("api", "routes", 1, key)
    assert message in fault.message


def test_sound_routes_have_no_faults() -> None:
    changes = HeaderChanges(set={"X-Gateway": "a"}, add={"Via": "b"}, remove=("X-Debug",))
    assert not list(check_api(configuration([route("/a", request_headers=changes, response_headers=changes), route("/")], UPSTREAMS)))


def test_every_name_of_the_identity_is_reserved() -> None:
    config = configuration([route()], UPSTREAMS)
    assert identity_names(config) == {"X-Customer-Id", "X-Auth-Id", "X-Customer-Tier"}


@pytest.mark.parametrize(
    ("session", "names"),
    [
        (
            Session(introspection=Introspection(url="http://a/", client_id="c", client_secret=Secret("s")), identity_header="X-User"),
            {"X-User"},
        ),
        (Session(forward=Forward(url="http://a/", customer_id=CustomerId(json="/id"))), {"X-Customer-Id"}),
    ],
)
def test_the_names_follow_the_session(session: Session, names: set[str]) -> None:
    assert identity_names(replace(configuration([route()], UPSTREAMS), session=session)) == names


def test_without_an_api_there_are_no_routes() -> None:
    config = replace(configuration([route()], UPSTREAMS), api=None)
    assert api_routes(config) == ()
    assert api_ways(config, (), {}, set()) == {}
    assert not list(check_api(config))
