import pytest

from gateway.edge.routes import Route, Session
from gateway.edge.routing import KEPT, LONGEST_KEPT, NONE, SDK, RouteTable, explain, upstream_target
from gateway.edge.target import parse
from gateway.errors import GatewayError

SDK_PREFIX = "/alipayplus"

ROOT = Route("/", "wallet")
AUTH = Route("/auth", "login", session="none")
ADMIN = Route("/auth/admin", "wallet", session="required")
PUBLIC = Route("/public", "wallet", session="none")
TABLE = RouteTable([ROOT, AUTH, ADMIN, PUBLIC], SDK_PREFIX)
NO_ROOT = RouteTable([AUTH, ADMIN, PUBLIC], SDK_PREFIX)


def matched(table: RouteTable, raw: str, method: str = "GET", host: str = "api.example") -> Route | None:
    return table.match(parse(raw, method=method, host=host), method, host).route


def refusal(table: RouteTable, raw: str, method: str = "GET", host: str = "api.example") -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        matched(table, raw, method, host)
    return caught.value


@pytest.mark.parametrize(
    ("raw", "route"),
    [
        ("/", ROOT),
        ("/x", ROOT),
        ("/auth", AUTH),
        ("/auth/", AUTH),
        ("/auth?x=/auth/admin", AUTH),
        ("/auth/x/y/z", AUTH),
        ("/authx", ROOT),
        ("/auth.json", ROOT),
        ("/Auth", ROOT),
        ("/auth/admin", ADMIN),
        ("/auth/admin/x", ADMIN),
        ("/auth/administrator", AUTH),
        ("/x/auth", ROOT),
        ("/alipayplusx", ROOT),
        ("/ALIPAYPLUS/v1/sdkProxy", ROOT),
        ("/auth//x", AUTH),
        ("/auth/x%2fy", AUTH),
        ("/auth/x;y", AUTH),
        ("/auth/%61", AUTH),
    ],
)
def test_the_longest_prefix_wins_on_segment_borders(raw: str, route: Route) -> None:
    assert matched(TABLE, raw) is route


@pytest.mark.parametrize("raw", ["/alipayplus", "/alipayplus/", "/alipayplus/v1/sdkProxy", "/alipayplus?x", "/alipayplus/%2f/x"])
def test_the_sdk_prefix_comes_first(raw: str) -> None:
    match = TABLE.match(parse(raw), "BREW", "api.example")
    assert match is SDK
    assert (match.is_sdk, match.label, match.route) == (True, "sdk", None)


def test_the_sdk_prefix_may_be_everything() -> None:
    assert RouteTable([], "/").match(parse("/x"), "GET", "") is SDK


@pytest.mark.parametrize("raw", ["/", "/x", "/authx", "//x"])
def test_no_route(raw: str) -> None:
    match = NO_ROOT.match(parse(raw), "GET", "api.example")
    assert match is NONE
    assert (match.is_sdk, match.label, match.route) == (False, "none", None)


def test_the_label_is_the_prefix_of_the_configuration() -> None:
    assert RouteTable([Route("/a/", "u")], SDK_PREFIX).match(parse("/a"), "GET", "").label == "/a/"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("/public/..%2fauth", id="G4-..%2f"),
        pytest.param("/public%2fx", id="G4-%2f-at-the-border"),
        pytest.param("/auth%2fadmin", id="G4-%2f"),
        pytest.param("/auth%252fadmin", id="G4-%252f"),
        pytest.param("/auth/%61dmin", id="G4-%61"),
        pytest.param("/auth/%2561dmin", id="G4-%2561"),
        pytest.param("/auth//admin", id="G4-double-slash"),
        pytest.param("/auth/%2fadmin", id="G4-encoded-double-slash"),
        pytest.param("//auth", id="G4-double-slash-first"),
        pytest.param("//public/auth", id="G4-network-path"),
        pytest.param("/auth;x/admin", id="G4-parameter"),
        pytest.param("/auth/;/admin", id="G4-empty-parameter"),
        pytest.param("/auth/admin;x", id="G4-parameter-at-the-end"),
        pytest.param("/auth/admin%3bx", id="G4-%3b"),
        pytest.param("/auth/admin%3fx", id="G4-%3f"),
        pytest.param("/auth/admin%23x", id="G4-%23"),
        pytest.param("/auth/x;%2f..%2fadmin", id="G4-parameter-then-%2f"),
        pytest.param("//alipayplus/v1/sdkProxy", id="G4-sdk-double-slash"),
        pytest.param("/alipayplus%2fv1/sdkProxy", id="G4-sdk-%2f"),
        pytest.param("/%61lipayplus/v1/sdkProxy", id="G4-sdk-%61"),
        pytest.param("/alipayplus;x/v1/sdkProxy", id="G4-sdk-parameter"),
        pytest.param("//x/alipayplus/v1/sdkProxy", id="G4-sdk-network-path"),
    ],
)
def test_what_another_reading_takes_elsewhere_is_refused(raw: str) -> None:
    for table in (TABLE, NO_ROOT):
        assert refusal(table, raw).failure.code == "REQUEST_MALFORMED"


# Routes narrowed by host and methods


def test_a_route_is_narrowed_by_host() -> None:
    api = Route("/", "api", hosts=frozenset({"api.example"}))
    rest = Route("/", "rest")
    deep = Route("/deep", "deep", hosts=frozenset({"other.example", "[::1]"}))
    table = RouteTable([rest, api, deep], SDK_PREFIX)
    assert matched(table, "/", host="API.example:8443") is api
    assert matched(table, "/", host="api.example.") is api
    assert matched(table, "/", host="www.example") is rest
    assert matched(table, "/deep/x", host="api.example") is api
    assert matched(table, "/deep/x", host="other.example") is deep
    assert matched(table, "/deep/x", host="[::1]:80") is deep
    assert matched(table, "/", host="") is rest


def test_no_route_for_the_host() -> None:
    table = RouteTable([Route("/", "api", hosts=frozenset({"api.example"}))], SDK_PREFIX)
    assert matched(table, "/", host="www.example") is None


def test_A1_a_bad_host_takes_no_route() -> None:
    table = RouteTable([Route("/", "api", hosts=frozenset({"api.example"}))], SDK_PREFIX)
    assert refusal(table, "/", host="api.example/x").failure.code == "REQUEST_MALFORMED"


def test_routes_of_one_prefix_may_differ_by_method_in_either_direction() -> None:
    read = Route("/orders", "wallet", methods=frozenset({"GET"}), session="none")
    write = Route("/orders", "wallet", methods=frozenset({"POST"}), session="required")
    for routes in ([read, write], [write, read]):
        table = RouteTable(routes, SDK_PREFIX)
        assert matched(table, "/orders") is read
        assert matched(table, "/orders", "POST") is write


def test_a_method_that_the_longer_prefix_does_not_have_may_take_a_shorter_one() -> None:
    catalog = Route("/catalog", "wallet", methods=frozenset({"GET"}), session="none")
    table = RouteTable([ROOT, catalog], SDK_PREFIX)
    assert matched(table, "/catalog/x", "GET") is catalog
    assert matched(table, "/catalog/x", "POST") is ROOT


@pytest.mark.parametrize(("guard", "open_"), [("required", "none"), ("required", "optional"), ("optional", "none")])
def test_a_method_never_leads_to_a_weaker_session_rule(guard: Session, open_: Session) -> None:
    guarded = Route("/admin", "wallet", methods=frozenset({"GET", "POST"}), session=guard)
    table = RouteTable([Route("/", "wallet", session=open_), guarded], SDK_PREFIX)
    error = refusal(table, "/admin/x", "HEAD")
    assert error.failure.code == "METHOD_NOT_ALLOWED"
    assert error.headers == (("Allow", "GET, POST"),)


@pytest.mark.parametrize(
    "method",
    [pytest.param("TRACE", id="A18-TRACE"), pytest.param("CONNECT", id="A18-CONNECT"), pytest.param("BREW", id="A18-BREW")],
)
def test_a_method_without_a_route_is_refused_with_those_that_have_one(method: str) -> None:
    table = RouteTable([Route("/a", "u", methods=frozenset({"POST"})), Route("/a/b", "u", methods=frozenset({"PUT", "LOCK"}))], SDK_PREFIX)
    error = refusal(table, "/a/b/c", method)
    assert error.failure.code == "METHOD_NOT_ALLOWED"
    assert error.headers == (("Allow", "LOCK, POST, PUT"),)


def test_A18_methods_are_routed_as_the_routes_say() -> None:
    table = RouteTable([Route("/", "u", methods=frozenset({"TRACE", "BREW"})), Route("/all", "u")], SDK_PREFIX)
    assert matched(table, "/x", "TRACE") is not None
    assert matched(table, "/x", "BREW") is not None
    assert matched(table, "/all", "OPTIONS") is not None
    assert refusal(table, "/x", "trace").failure.code == "METHOD_NOT_ALLOWED"


def test_A18_CONNECT_is_never_routed() -> None:
    error = refusal(RouteTable([ROOT], SDK_PREFIX), "/", "CONNECT")
    assert error.headers == (("Allow", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),)


def test_G4_a_reading_that_only_changes_what_is_refused_is_refused_either_way() -> None:
    table = RouteTable([Route("/a", "u", methods=frozenset({"POST"}))], SDK_PREFIX)
    assert refusal(table, "/a/%2fx").failure.code == "METHOD_NOT_ALLOWED"
    assert refusal(table, "//a").failure.code == "REQUEST_MALFORMED"


# What goes upstream


@pytest.mark.parametrize(
    ("prefix", "raw", "sent"),
    [
        ("/pub", "/pub", "/"),
        ("/pub", "/pub/", "/"),
        ("/pub", "/pub?", "/?"),
        ("/pub", "/pub?x=%zz", "/?x=%zz"),
        ("/pub", "/pub/a%20b/?", "/a%20b/?"),
        ("/pub", "/pub//a;b%2F", "//a;b%2F"),
        ("/pub", "/pub/pub", "/pub"),
        ("/pub/", "/pub/a", "/a"),
        ("/pub/", "/pub", "/"),
        ("/", "/a?b", "/a?b"),
        ("/a/b", "/a/b/c", "/c"),
    ],
)
def test_strip_prefix_cuts_the_prefix_only(prefix: str, raw: str, sent: str) -> None:
    target = parse(raw)
    route = Route(prefix, "u", strip_prefix=True)
    assert RouteTable([route], SDK_PREFIX).match(target, "GET", "").route is route
    assert upstream_target(route, target) == sent


@pytest.mark.parametrize("raw", ["/pub//x/admin", "/pub///x/admin", "/pub//x/%61dmin", "/pub/%2fx/admin", "/pub//x;y/admin/z"])
def test_G4_an_authority_behind_a_stripped_prefix_is_seen(raw: str) -> None:
    stripped, whole, guarded = Route("/pub", "u", strip_prefix=True), Route("/pub", "u"), Route("/pub/admin", "other")
    assert refusal(RouteTable([stripped, guarded], SDK_PREFIX), raw).reason == "request target: another reading takes another route"
    assert matched(RouteTable([stripped], SDK_PREFIX), raw) is stripped
    assert matched(RouteTable([whole, guarded], SDK_PREFIX), raw) is whole


def test_without_strip_prefix_the_target_is_sent_as_it_is() -> None:
    raw = "/auth/x%2Fy//z;w/%7e?&&=%zz#"[:-1]
    assert upstream_target(AUTH, parse(raw)) == raw


# What `gateway routes` says


def test_explains_a_route() -> None:
    table = RouteTable([Route("/pub", "wallet", session="optional", strip_prefix=True, hosts=frozenset({"api.example"}))], SDK_PREFIX)
    explanation = explain(table, "GET", "https://api.example:8443/pub/a%20b?c")
    assert str(explanation).splitlines() == [
        "outcome: route",
        "route: /pub",
        "upstream: wallet",
        "session: optional",
        "sent: GET /a%20b?c",
    ]


@pytest.mark.parametrize(
    ("method", "url", "outcome", "reason"),
    [
        ("POST", "http://h/alipayplus/v1/sdkProxy", "sdk", "below the SDK prefix"),
        ("GET", "/nothing", "NOT_FOUND", "no route"),
        ("GET", "/auth/../x", "REQUEST_MALFORMED", "request target: dot segment"),
        ("GET", "/auth/%61dmin", "REQUEST_MALFORMED", "request target: another reading takes another route"),
        ("CONNECT", "/auth", "METHOD_NOT_ALLOWED", "no route for the method"),
        ("GET", "http://user@h/auth", "REQUEST_MALFORMED", "request target: host"),
        ("GET", "auth", "REQUEST_MALFORMED", "request target: neither origin-form nor absolute-form"),
        ("OPTIONS", "*", "REQUEST_MALFORMED", "request target: neither origin-form nor absolute-form"),
    ],
)
def test_explains_why_there_is_no_route(method: str, url: str, outcome: str, reason: str) -> None:
    explanation = explain(NO_ROOT, method, url)
    assert (explanation.outcome, explanation.reason, explanation.sent) == (outcome, reason, "")


LONG = "/" + "x" * LONGEST_KEPT


@pytest.mark.parametrize("raw", ["/auth/x?y", "/auth/admin/x", "/alipayplus/v1/sdkProxy", "/auth/%61", LONG, f"{LONG}?x"])
def test_what_has_been_located_is_located_again(raw: str) -> None:
    for _ in range(2):
        target, match = TABLE.locate(raw, "GET", "api.example")
        assert target == parse(raw)
        assert match is TABLE.match(target, "GET", "api.example")


def test_where_a_target_leads_is_remembered_for_its_method_and_host_only() -> None:
    hosted, getting = Route("/", "a", hosts=frozenset(("a.example",))), Route("/", "b", methods=frozenset(("GET",)))
    table = RouteTable([hosted, getting], SDK_PREFIX)
    for _ in range(2):
        assert table.locate("/x", "GET", "a.example")[1].route is hosted
        assert table.locate("/x", "GET", "b.example")[1].route is getting
        target, match = table.locate("/x", "POST", "b.example")
        assert match.route is None
        with pytest.raises(GatewayError, match="no route for the method") as caught:
            table.demand(match, target, "b.example")
        assert caught.value.headers == (("Allow", "GET"),)
        table.demand(table.locate("/x", "POST", "a.example")[1], target, "a.example")


@pytest.mark.parametrize(("raw", "host"), [("/auth/%2e%2e/x", "api.example"), ("/auth%2fadmin", "api.example"), ("http://a/x", "b")])
def test_what_is_malformed_is_so_again(raw: str, host: str) -> None:
    for _ in range(2):
        with pytest.raises(GatewayError) as caught:
            TABLE.locate(raw, "GET", host)
        assert caught.value.failure.code == "REQUEST_MALFORMED"


def test_as_many_targets_are_remembered_as_are_bounded() -> None:
    table = RouteTable([ROOT], SDK_PREFIX)
    for number in range(2 * KEPT):
        table.locate(f"/{number}", "GET", "api.example")
        table.locate(f"{LONG}{number}", "GET", "api.example")
        table.locate(f"/x?token={number}", "GET", "api.example")
    assert table._known.cache_info().currsize == KEPT
    assert table._known.cache_info().misses == 2 * KEPT, "neither the long ones nor those with a query"
    assert table.locate("/0", "GET", "api.example")[0].raw == "/0"
