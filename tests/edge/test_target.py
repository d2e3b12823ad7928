import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.target import host_name, is_host, parse, readings
from gateway.errors import GatewayError

SEGMENT = st.text("abcXYZ019-_~!$&'()*+,=:@|^`{}[]\"<>", min_size=1).map(lambda text: text + ".json")
QUERY = st.text([chr(code) for code in range(0x21, 0x7F) if chr(code) != "#"])


def refusal(raw: str, *, method: str = "GET", host: str = "api.example") -> str:
    with pytest.raises(GatewayError) as caught:
        parse(raw, method=method, host=host)
    assert caught.value.failure.code == "REQUEST_MALFORMED"
    return caught.value.reason


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/sdk/../api", id="G4-parent"),
        pytest.param("/sdk/./api", id="G4-current"),
        pytest.param("/..", id="G4-parent-alone"),
        pytest.param("/a/.", id="G4-current-at-the-end"),
        pytest.param("/a/..?x", id="G4-parent-before-the-query"),
        pytest.param("/a/%2e%2e/b", id="G4-%2e%2e"),
        pytest.param("/a/%2E./b", id="G4-%2E."),
        pytest.param("/a/%2e", id="G4-%2e"),
        pytest.param("/a/..%2fb", id="G4-..%2f"),
        pytest.param("/a%2f..%2fb", id="G4-%2f..%2f"),
        pytest.param("/a/%252e%252e/b", id="G4-%252e"),
        pytest.param("/a/..%252fb", id="G4-..%252f"),
        pytest.param("/a/..;/b", id="G4-..semicolon"),
        pytest.param("/a/..;x=1/b", id="G4-..parameter"),
        pytest.param("/a/.;/b", id="G4-.semicolon"),
        pytest.param("/a/%2e%2e%3b/b", id="G4-%2e%2e%3b"),
        pytest.param("/a/..%253b/b", id="G4-..%253b"),
        pytest.param("/a/;x/..;/b", id="G4-empty-parameter-segment"),
        pytest.param("/a/..%3fb", id="G4-..%3f"),
        pytest.param("/a/..%23", id="G4-..%23"),
        pytest.param("//../b", id="G4-double-slash-parent"),
    ],
)
def test_dot_segments_are_refused(target: str) -> None:
    assert refusal(target) == "request target: dot segment"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        pytest.param("/a\\..\\b", "backslash", id="G4-backslash"),
        pytest.param("/a%5c..%5cb", "backslash", id="G4-%5c"),
        pytest.param("/a%5Cb", "backslash", id="G4-%5C"),
        pytest.param("/a%255cb", "backslash", id="G4-%255c"),
        pytest.param("/a%00", "control character", id="G4-%00"),
        pytest.param("/a%2500", "control character", id="G4-%2500"),
        pytest.param("/a%0d%0aHost:%20b", "control character", id="G4-%0d%0a"),
        pytest.param("/a%7f", "control character", id="G4-%7f"),
        pytest.param("/a%1F", "control character", id="G4-%1F"),
        pytest.param("/%c0%ae%c0%ae/b", "not UTF-8", id="G4-%c0%ae"),
        pytest.param("/%C0%AF", "not UTF-8", id="G4-%C0%AF"),
        pytest.param("/%c0%2e", "not UTF-8", id="G4-%c0%2e"),
        pytest.param("/%e0%80%ae", "not UTF-8", id="G4-%e0%80%ae"),
        pytest.param("/%f0%80%80%ae", "not UTF-8", id="G4-%f0%80%80%ae"),
        pytest.param("/%25c0%25ae", "not UTF-8", id="G4-%25c0%25ae"),
        pytest.param("/%25e0%2580%25ae", "not UTF-8", id="G4-%25e0%2580%25ae"),
        pytest.param("/%ed%a0%80", "not UTF-8", id="G4-surrogate"),
        pytest.param("/%ff", "not UTF-8", id="G4-%ff"),
        pytest.param("/%e9", "not UTF-8", id="G4-latin-1"),
        pytest.param("/%", "percent escape", id="G4-%"),
        pytest.param("/%2", "percent escape", id="G4-%2"),
        pytest.param("/%zz", "percent escape", id="G4-%zz"),
        pytest.param("/%u002e", "percent escape", id="G4-%u002e"),
        pytest.param("/a%2?2", "percent escape", id="G4-%2-before-the-query"),
        pytest.param("/caf\u00e9", "character that may not stand in a target", id="G4-unicode"),
        pytest.param("/\uff0e\uff0e/b", "character that may not stand in a target", id="G4-fullwidth"),
        pytest.param("/\xc0\xae", "character that may not stand in a target", id="G4-raw-overlong"),
        pytest.param("/a\udc80", "character that may not stand in a target", id="G4-undecodable"),
        pytest.param("/a?\u00e9", "character that may not stand in a target", id="G4-unicode-in-the-query"),
        pytest.param("/a?b\x00", "character that may not stand in a target", id="G4-NUL-in-the-query"),
        pytest.param("/a\tb", "character that may not stand in a target", id="G4-tab"),
        pytest.param("/a b", "character that may not stand in a target", id="G4-space"),
        pytest.param("/a\n", "character that may not stand in a target", id="G4-newline-at-the-end"),
        pytest.param("/a\x7f", "character that may not stand in a target", id="G4-delete"),
        pytest.param("/a#b", "character that may not stand in a target", id="G4-fragment"),
        pytest.param("/a?b#c", "character that may not stand in a target", id="G4-fragment-behind-the-query"),
    ],
)
def test_what_no_path_may_hold_is_refused(target: str, reason: str) -> None:
    assert refusal(target) == f"request target: {reason}"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        pytest.param("GET", "http://evil.example/", id="A4-another-authority"),
        pytest.param("GET", "http://api.example:8080/", id="A4-another-port"),
        pytest.param("GET", "http://api.example.evil.example/", id="A4-longer-authority"),
        pytest.param("GET", "http://api.example@evil.example/", id="A4-userinfo"),
        pytest.param("GET", "http://user@api.example/", id="A4-userinfo-before-our-own"),
        pytest.param("GET", "http://user:pass@api.example/", id="A4-password"),
        pytest.param("GET", "http:///a", id="A4-no-authority"),
        pytest.param("GET", "http://api.example\\@evil.example/", id="A4-backslash"),
        pytest.param("GET", "ftp://api.example/", id="A4-other-scheme"),
        pytest.param("GET", "http:/a", id="A4-one-slash"),
        pytest.param("CONNECT", "api.example:443", id="A4-authority-form"),
        pytest.param("GET", "api.example:80", id="A4-authority-form-by-GET"),
        pytest.param("OPTIONS", "*", id="A4-asterisk"),
        pytest.param("GET", "*", id="A4-asterisk-by-GET"),
        pytest.param("OPTIONS", "http://api.example", id="A4-asterisk-as-absolute-form"),
        pytest.param("GET", "", id="A4-empty"),
        pytest.param("GET", "a", id="A4-relative"),
        pytest.param("GET", "?a", id="A4-query-only"),
        pytest.param("GET", "http://api.example/../b", id="A4-dot-segment-behind-our-own"),
        pytest.param("GET", "http://api.example#", id="A4-fragment-behind-our-own"),
    ],
)
def test_what_is_no_origin_form_is_refused(method: str, target: str) -> None:
    refusal(target, method=method)


def test_A4_absolute_form_without_a_host_is_refused() -> None:
    assert refusal("http://api.example/", host="") == "request target: absolute-form with another authority"


def test_A4_absolute_form_with_a_bad_host_is_refused() -> None:
    assert refusal("http://api.example/", host="api.example, evil.example") == "request target: host"


@pytest.mark.parametrize(
    ("target", "host", "origin"),
    [
        ("http://api.example/a?b", "api.example", "/a?b"),
        ("HTTP://API.example/a", "api.EXAMPLE", "/a"),
        ("http://api.example:80/a", "api.example", "/a"),
        ("https://api.example/a", "api.example:443", "/a"),
        ("http://api.example:/a", "api.example", "/a"),
        ("http://api.example:8080//a", "api.example:8080", "//a"),
        ("http://[::1]:8080/a", "[::1]:8080", "/a"),
        ("http://api.example", "api.example", "/"),
        ("http://api.example?x=/..", "api.example", "/?x=/.."),
    ],
)
def test_A4_our_own_absolute_form_is_taken_as_its_origin_form(target: str, host: str, origin: str) -> None:
    assert parse(target, host=host).raw == origin


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a", "/a", ""),
        ("/a/", "/a/", ""),
        ("/a?", "/a", ""),
        ("/a?b=c?d", "/a", "b=c?d"),
        ("/?", "/", ""),
        ("/.well-known/x", "/.well-known/x", ""),
        ("/a...b/.../..a", "/a...b/.../..a", ""),
        ("/a%20b%C3%A9", "/a%20b%C3%A9", ""),
        ("/100%25", "/100%25", ""),
        ("/100%25absolute", "/100%25absolute", ""),  # a second decoding gives no UTF-8, and nothing that leads elsewhere
        ("/a%2fb//c;d", "/a%2fb//c;d", ""),
        ("/%3Fa%23", "/%3Fa%23", ""),
        ("/a?x=%00%5c%zz\\/../%2e%2e%c0%ae", "/a", "x=%00%5c%zz\\/../%2e%2e%c0%ae"),  # a query is data
    ],
)
def test_what_passes_is_kept_byte_for_byte(target: str, path: str, query: str) -> None:
    parsed = parse(target)
    assert (parsed.raw, parsed.path, parsed.query) == (target, path, query)


@given(st.lists(SEGMENT), st.booleans(), st.none() | QUERY)
def test_plain_targets_have_no_other_reading(segments: list[str], ends: bool, query: str | None) -> None:  # noqa: FBT001  drawn
    path = "".join(f"/{segment}" for segment in segments) + ("/" if ends or not segments else "")
    raw = path if query is None else f"{path}?{query}"
    target = parse(raw)
    assert (target.raw, target.path, target.query, target.readings) == (raw, path, query or "", frozenset())


@given(st.text("/.;%25cCfFeEaA0?#\\x\u00e9 \x00"))
def test_whatever_comes_it_passes_unchanged_or_is_refused(text: str) -> None:
    try:
        target = parse("/" + text)
    except GatewayError as error:
        assert error.failure.code == "REQUEST_MALFORMED"  # noqa: PT017  either is right
    else:
        assert target.raw == "/" + text
        assert all(reading.startswith("/") for reading in target.readings)


@given(st.text("/;%25x", max_size=12))
def test_every_reading_is_also_read_with_slashes_merged(text: str) -> None:
    path = f"/{text}"
    found = readings(path)
    assert path in found
    assert {re.sub("/+", "/", reading) for reading in found} <= found


@pytest.mark.parametrize(
    ("path", "reading"),
    [
        ("/a%2fb", "/a/b"),
        ("/%61dmin", "/admin"),
        ("/%2561dmin", "/admin"),
        ("//a///b", "/a/b"),
        ("/%2f/a", "/a"),
        ("/a;x=1/b;y", "/a/b"),
        ("/a%3bx/b", "/a/b"),
        ("/a%253bx/b", "/a/b"),
        ("/a;%2fb/c", "/a/c"),  # cut, then decoded
        ("/a;%2fb/c", "/a/b/c"),  # decoded, then cut
        ("/a%3fx", "/a"),
        ("/a%23x", "/a"),
        ("//host/a", "/a"),
        ("//host", "/"),
        ("/a%C3%A9", "/a\u00c3\u00a9"),
    ],
)
def test_readings(path: str, reading: str) -> None:
    assert reading in readings(path)


@pytest.mark.parametrize("unit", ["/", "%25", "%3b/", ";/", "%252f", "%2525;/", "/;%2f", "//x"])
def test_G12_the_number_of_readings_does_not_grow_with_the_target(unit: str) -> None:
    assert len(readings("/" + unit * (10_000 // len(unit)))) <= 56


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("", ""),
        ("API.Example", "api.example"),
        ("api.example:8080", "api.example"),
        ("api.example.:443", "api.example"),
        ("api.example:", "api.example"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[2001:DB8::1]:443", "[2001:db8::1]"),
    ],
)
def test_host_name(host: str, name: str) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize("host", ["a@b", "a,b", "a b", "a/b", "a:b", "a:123456", "[::1", "::1", "\u00e9", "a%41", "a\n", ":80"])
def test_A1_what_is_no_host_is_refused(host: str) -> None:
    assert not is_host(host)
    with pytest.raises(GatewayError, match="REQUEST_MALFORMED"):
        host_name(host)


@pytest.mark.parametrize("path", ["/a//", "/a/b//", "/a//?x=1", "//", "/a//b", "/a/b//c/"])
def test_G4_slashes_that_a_server_may_merge_give_another_reading_wherever_they_stand(path: str) -> None:
    assert path.partition("?")[0].replace("//", "/") in parse(path).readings
