"""Which requests lead where, and which nowhere."""

import pytest

from tests.passthrough.rig import StartRig, reading_all, route, upstream
from tests.upstream.peer import StartPeer


async def test_routes_lead_to_their_upstreams_and_the_rest_nowhere(start_rig: StartRig, start_peer: StartPeer) -> None:
    one, other = await start_peer(reading_all), await start_peer(reading_all)
    rig = await start_rig(
        routes=[route("/one", "one"), route("/one/other", "other", methods=("GET",))],
        upstreams={"one": upstream(one.url), "other": upstream(other.url)},
    )
    for path, status in ((b"/one", 204), (b"/one/other/x", 204), (b"/onetwo", 404), (b"/", 404), (b"/alipayplus/x", 200)):
        client = await rig.connect(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" %d " % status in await client.head()
    assert len(one.calls) == len(other.calls) == 1
    assert rig.sdk_requests == ["/alipayplus/x"]
    lines = await rig.ended(5)
    assert [line["route"] for line in lines] == ["/one", "/one/other", "none", "none", "sdk"]
    assert [line.get("path") for line in lines] == ["/one", "/one/other/x", "/onetwo", "/", None]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        pytest.param(b"/api/../alipayplus/v1", 400, id="G4-dot-dot"),
        pytest.param(b"/api/%2e%2e/alipayplus/v1", 400, id="G4-encoded-dots"),
        pytest.param(b"/auth/..%2fadmin", 400, id="G4-encoded-slash"),
        pytest.param(b"/auth/%252e%252e/admin", 400, id="G4-twice"),
        pytest.param(b"/auth/..;/admin", 400, id="G4-parameter"),
        pytest.param(b"/auth\\admin", 400, id="G4-backslash"),
        pytest.param(b"/auth%5cadmin", 400, id="G4-encoded-backslash"),
        pytest.param(b"/auth/%00", 400, id="G4-NUL"),
        pytest.param(b"/auth/%c0%ae%c0%ae/admin", 400, id="G4-overlong"),
        pytest.param(b"//alipayplus/v1", 400, id="G4-slashes"),
        pytest.param(b"/%61lipayplus/v1", 400, id="G4-encoded-letter"),
        pytest.param(b"/ALIPAYPLUS/v1", 204, id="G4-case"),
        pytest.param(b"/a\xff", 400, id="G4-raw-bytes"),
        pytest.param(b"http://b/", 400, id="A4-another-authority"),
        pytest.param(b"http://u:p@a/", 400, id="A4-userinfo"),
        pytest.param(b"a:80", 400, id="A4-authority-form"),
        pytest.param(b"*", 400, id="A4-asterisk"),
    ],
)
async def test_targets_that_are_refused_before_routing(start_rig: StartRig, start_peer: StartPeer, target: bytes, status: int) -> None:
    peer = await start_peer(reading_all)
    rig = await start_rig(peer.url, routes=[route("/"), route("/auth"), route("/auth/admin", session="required")])
    client = await rig.connect(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b" %d " % status in await client.head()
    assert len(peer.calls) == int(status == 204)
    assert rig.sdk_requests == []
    if status == 400:
        (line,) = await rig.ended()
        assert line.get("path") is None
        assert rig.count("gateway_rejected_total", reason="bad_target") + rig.count("gateway_rejected_total", reason="bad_request") == 1


@pytest.mark.parametrize(
    "head",
    [
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_an_upgrade_with_a_method_that_the_route_does_not_take_is_the_last_request(
    start_rig: StartRig, start_peer: StartPeer, head: bytes
) -> None:
    rig = await start_rig((await start_peer(reading_all)).url, methods=("POST",))
    raw = await rig.raw(head)
    assert raw.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nConnection: close\r\n" in raw


@pytest.mark.parametrize(
    ("method", "status"),
    [(b"GET", 204), (b"POST", 405), (b"TRACE", 405), (b"FOO", 405), (b"PLAY", 405), (b"CONNECT", 400)],
)
async def test_A18_methods_go_by_the_routes_rule(start_rig: StartRig, start_peer: StartPeer, method: bytes, status: int) -> None:
    rig = await start_rig((await start_peer(reading_all)).url, methods=("GET",))
    target = b"a:80" if method == b"CONNECT" else b"/x"
    client = await rig.connect(method + b" " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    head = await client.head()
    assert b" %d " % status in head
    if status == 405:
        assert b"\r\nAllow: " in head
