import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.forwarded import Caller, Trace, TrustedProxies, caller, claims, parse_traceparent, parse_tracestate, request_id, trace

TRUSTED = TrustedProxies(["10.20.0.0/16", "192.0.2.7", "2001:db8:1::/48"])
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


def fields_of(block: bytes) -> list[tuple[bytes, bytes]]:
    """What a server reads of a block."""
    lines = [line.partition(b": ") for line in block.split(b"\r\n")[1:]]
    return [(name, value) for name, _, value in lines]


def called(*headers: tuple[str, str], peer: str | None = "10.20.0.1", trusted: TrustedProxies = TRUSTED) -> Caller:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return caller(claims(raw), trusted, peer=peer, scheme="http", host="api.example:8080")


# Trusted networks


@pytest.mark.parametrize("peer", ["10.20.0.0", "10.20.255.255", "192.0.2.7", "2001:db8:1::9", "2001:db8:1::9%eth0", "::ffff:10.20.0.1"])
def test_addresses_in_the_networks_are_trusted(peer: str) -> None:
    assert TRUSTED.trusts(peer)


@pytest.mark.parametrize(
    "peer", ["10.21.0.0", "192.0.2.8", "2001:db8:2::9", "", "unix:", "10.20.0.1.evil.example", "10.20.0.256", "::ffff:10.21.0.1"]
)
def test_G1_all_others_are_not(peer: str) -> None:
    assert not TRUSTED.trusts(peer)


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "10.20.0.1", ""])
def test_G1_by_default_nobody_is_trusted(peer: str) -> None:
    assert not TrustedProxies().trusts(peer)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "proxy.example", "10.0.0.0/33", ""])
def test_what_is_no_network_is_an_error(network: str) -> None:
    with pytest.raises(ValueError):
        TrustedProxies([network])


@pytest.mark.parametrize("text", ["10.20.0.1", "10.20.0.1:80", "[::ffff:10.20.0.1]", "::ffff:10.20.0.1"])
def test_an_address_is_read_the_same_each_time(text: str) -> None:
    assert [TRUSTED.read(text) for _ in range(2)] == [("10.20.0.1", True)] * 2


def test_nothing_long_is_kept() -> None:
    proxies = TrustedProxies(["2001:db8::/32"])
    assert [proxies.read("2001:db8::1%" + "a" * length) for length in (52, 53)] == [("2001:db8::1", True), None]


# Who is calling

CLAIMS = (
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "wallet.example"),
    ("X-Real-IP", "203.0.113.9"),
    ("Forwarded", "for=203.0.113.9"),
)


@pytest.mark.parametrize("trusted", [TRUSTED, TrustedProxies()])
def test_G1_what_others_claim_does_not_count(trusted: TrustedProxies) -> None:
    found = called(*CLAIMS, peer="198.51.100.1", trusted=trusted)
    assert found == Caller("198.51.100.1", ("198.51.100.1",), "http", "api.example:8080", is_trusted=False)
    assert fields_of(found.block) == [
        (b"X-Forwarded-For", b"198.51.100.1"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"api.example:8080"),
        (b"X-Real-IP", b"198.51.100.1"),
    ]


def test_G1_what_a_trusted_proxy_says_counts() -> None:
    found = called(*CLAIMS)
    assert found == Caller("203.0.113.9", ("203.0.113.9", "10.20.0.1"), "https", "wallet.example", is_trusted=True)
    assert fields_of(found.block) == [
        (b"X-Forwarded-For", b"203.0.113.9, 10.20.0.1"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"wallet.example"),
        (b"X-Real-IP", b"203.0.113.9"),
    ]


@pytest.mark.parametrize(
    ("values", "chain"),
    [
        pytest.param([], [], id="G1-none"),
        pytest.param([""], [], id="G1-empty"),
        pytest.param(["1.2.3.4, 203.0.113.9"], ["203.0.113.9"], id="G1-spoofed-on-the-left"),
        pytest.param(["10.20.0.9, 203.0.113.9"], ["203.0.113.9"], id="G1-a-trusted-address-claimed-on-the-left"),
        pytest.param(["203.0.113.9, 192.0.2.7,10.20.0.2"], ["203.0.113.9", "192.0.2.7", "10.20.0.2"], id="G1-several-proxies"),
        pytest.param(["1.2.3.4", "203.0.113.9", " 10.20.0.2\t"], ["203.0.113.9", "10.20.0.2"], id="G1-repeated"),
        pytest.param(["10.20.0.3, 10.20.0.2"], ["10.20.0.3", "10.20.0.2"], id="G1-only-proxies"),
        pytest.param(["203.0.113.9, unknown, 10.20.0.2"], ["10.20.0.2"], id="G1-unknown"),
        pytest.param(["203.0.113.9, 10.20.0.2, _hidden"], [], id="G1-obfuscated"),
        pytest.param(["203.0.113.9,,10.20.0.2"], ["10.20.0.2"], id="G1-empty-entry"),
        pytest.param(["203.0.113.9, 10.20.0.2, 203.0.113.300"], [], id="G1-no-address"),
        pytest.param(["\xff"], [], id="G1-not-ASCII"),
        pytest.param(["203.0.113.9:4711"], ["203.0.113.9"], id="G1-port"),
        pytest.param(["[2001:DB8::9]:4711"], ["2001:db8::9"], id="G1-v6-port"),
        pytest.param(["2001:db8:0::9"], ["2001:db8::9"], id="G1-v6"),
        pytest.param(["::ffff:203.0.113.9"], ["203.0.113.9"], id="G1-v4-as-v6"),
        pytest.param(["203.0.113.9, ::ffff:10.20.0.2"], ["203.0.113.9", "10.20.0.2"], id="G1-trusted-v4-as-v6"),
    ],
)
def test_x_forwarded_for_is_read_from_the_right(values: list[str], chain: list[str]) -> None:
    found = called(*(("x-FORWARDED-for", value) for value in values))
    assert found.chain == (*chain, "10.20.0.1")
    assert found.address == found.chain[0]


@given(
    st.lists(st.sampled_from(["203.0.113.9", "1.2.3.4", "10.20.0.2", "192.0.2.7", "x", "", "2001:db8::1"])),
    st.text("1.:,[]% ax", max_size=20),
)
def test_G1_no_claim_of_others_gets_into_the_chain(entries: list[str], junk: str) -> None:
    clean = ["203.0.113.77", "10.20.0.2"]  # what the outermost and the next trusted proxy saw
    assert called(("X-Forwarded-For", ", ".join([*entries, junk, *clean]))).chain == (*clean, "10.20.0.1")


@pytest.mark.parametrize(
    ("values", "proto"),
    [
        (["https"], "https"),
        (["HTTPS"], "https"),
        (["http"], "http"),
        (["https, http"], "http"),
        (["http", "https"], "https"),
        (["wss"], "http"),
        ([""], "http"),
        (["https\xa0"], "http"),
    ],
)
def test_of_x_forwarded_proto_the_last_value_counts_if_it_is_one(values: list[str], proto: str) -> None:
    assert called(*(("X-Forwarded-Proto", value) for value in values)).proto == proto


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("wallet.example", "wallet.example"),
        ("a.example, wallet.example:443", "wallet.example:443"),
        ("wallet.example/../x", "api.example:8080"),
        ("user@wallet.example", "api.example:8080"),
        ("", "api.example:8080"),
    ],
)
def test_of_x_forwarded_host_the_last_value_counts_if_it_is_one(value: str, host: str) -> None:
    assert called(("X-Forwarded-Host", value)).host == host


def test_on_a_unix_socket_nobody_is_known_or_trusted() -> None:
    found = called(*CLAIMS, peer=None)
    assert (found.address, found.chain, found.is_trusted) == ("", (), False)
    assert [name for name, _ in fields_of(found.block)] == [b"X-Forwarded-Proto", b"X-Forwarded-Host"]


@pytest.mark.parametrize("host", ["", "a b", "api.example\u20ac", "a@b"])
def test_what_is_no_host_is_not_passed_on(host: str) -> None:
    assert b"X-Forwarded-Host" not in dict(fields_of(caller([], TRUSTED, peer="192.0.2.1", scheme="https", host=host).block))


# The request's id


@pytest.mark.parametrize("value", ["a", "A-z_0.9", "x" * 64])
def test_a_trusted_proxy_s_request_id_is_kept(value: str) -> None:
    assert request_id(claims([(b"X-Request-ID", value.encode())]), is_trusted=True, fresh="fresh") == value


@pytest.mark.parametrize("value", ["", "x" * 65, "a b", "a\n", "a/b", "\xe9", "a,b"])
def test_a_request_id_of_another_form_is_not(value: str) -> None:
    assert request_id([(b"x-request-id", value.encode("latin-1"))], is_trusted=True, fresh="fresh") == "fresh"


def test_G1_a_request_id_counts_only_once_and_only_from_a_trusted_proxy() -> None:
    header = (b"X-Request-Id", b"theirs")
    assert request_id([header], is_trusted=False, fresh="fresh") == "fresh"
    assert request_id([header, header], is_trusted=True, fresh="fresh") == "fresh"
    assert request_id([(b"X_Request_Id", b"theirs")], is_trusted=True, fresh="fresh") == "fresh"


# The trace. The cases are those of the W3C's trace-context test suite, as far as a level 1 participant decides them.


def traced(*headers: tuple[str, str], is_trusted: bool = True, is_sampled: bool = False) -> Trace:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return trace(claims(raw), is_trusted=is_trusted, trace_id="1" * 32, span_id="2" * 16, is_sampled=is_sampled)


def test_a_trusted_caller_s_trace_is_continued_under_a_span_of_our_own() -> None:
    found = traced(("Traceparent", PARENT), ("tracestate", "a=1"), ("TraceState", "b=2 , c=3"))
    assert found == Trace(TRACE_ID, "2" * 16, SPAN_ID, is_sampled=True, tracestate="a=1,b=2,c=3")
    assert fields_of(found.block) == [
        (b"traceparent", f"00-{TRACE_ID}-{'2' * 16}-01".encode()),
        (b"tracestate", b"a=1,b=2,c=3"),
    ]


@pytest.mark.parametrize("is_sampled", [True, False])
def test_G1_a_trace_of_others_is_not(is_sampled: bool) -> None:  # noqa: FBT001  a parameter
    found = traced(("traceparent", PARENT), ("tracestate", "a=1"), is_trusted=False, is_sampled=is_sampled)
    assert found == Trace("1" * 32, "2" * 16, is_sampled=is_sampled)
    assert fields_of(found.block) == [(b"traceparent", f"00-{'1' * 32}-{'2' * 16}-0{int(is_sampled)}".encode())]


def test_without_traceparent_a_trace_begins_and_tracestate_is_dropped() -> None:
    assert traced(("tracestate", "a=1")) == Trace("1" * 32, "2" * 16)


def test_two_traceparents_begin_a_new_trace() -> None:
    assert traced(("traceparent", PARENT), ("traceparent", PARENT)) == Trace("1" * 32, "2" * 16)


@pytest.mark.parametrize(
    ("value", "is_sampled"),
    [
        (f"00-{TRACE_ID}-{SPAN_ID}-00", False),
        (f"00-{TRACE_ID}-{SPAN_ID}-01", True),
        (f"00-{TRACE_ID}-{SPAN_ID}-ff", True),
        (f"00-{TRACE_ID}-{SPAN_ID}-02", False),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01", True),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01-what-the-future-holds", True),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01-", True),
    ],
)
def test_traceparents_that_are_valid(value: str, is_sampled: bool) -> None:  # noqa: FBT001  a parameter
    assert parse_traceparent(value) == Trace(TRACE_ID, SPAN_ID, is_sampled=is_sampled)


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"0-{TRACE_ID}-{SPAN_ID}-01",
        f"000-{TRACE_ID}-{SPAN_ID}-01",
        f".0-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01.",
        f"00-{TRACE_ID}-{SPAN_ID}-01-x",
        f"00-{TRACE_ID}-{SPAN_ID}-01-",
        f"cc-{TRACE_ID}-{SPAN_ID}-01.x",
        f"00-{TRACE_ID}-{SPAN_ID}-1",
        f"00-{TRACE_ID}-{SPAN_ID}-001",
        f"00-{TRACE_ID}-{SPAN_ID}-.1",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID.upper()}-01",
        f"00-{TRACE_ID[1:]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}a-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID[1:]}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01\n",
        f"00_{TRACE_ID}_{SPAN_ID}_01",
    ],
)
def test_traceparents_that_are_not(value: str) -> None:
    assert parse_traceparent(value) is None


@pytest.mark.parametrize(
    ("values", "joined"),
    [
        (["foo=1"], "foo=1"),
        (["foo=1", "bar=2"], "foo=1,bar=2"),
        (["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
        (["foo=1,", "", ",bar=2"], "foo=1,bar=2"),
        (["foo= 1"], "foo= 1"),
        (["fw529a3039@dt=FfAwAwB"], "fw529a3039@dt=FfAwAwB"),
        (["0@v=1"], "0@v=1"),
        (["a_-*/=!~"], "a_-*/=!~"),
        ([f"{'z' * 256}=1"], f"{'z' * 256}=1"),
        ([f"{'t' * 241}@{'v' * 14}=1"], f"{'t' * 241}@{'v' * 14}=1"),
        ([f"a={'v' * 256}"], f"a={'v' * 256}"),
        ([",".join(f"b{number:02}=1" for number in range(32))], ",".join(f"b{number:02}=1" for number in range(32))),
    ],
)
def test_tracestates_that_are_valid(values: list[str], joined: str) -> None:
    assert parse_tracestate(values) == joined


@pytest.mark.parametrize(
    "value",
    [
        "",
        "foo",
        "foo=",
        "=1",
        "foo=1=2",
        "foo =1",
        "FOO=1",
        "foo.bar=1",
        "0foo=1",
        "foo@=1,bar=2",
        "@foo=1,bar=2",
        "foo@@bar=1",
        "foo@bar@baz=1",
        "foo=1,foo=2",
        "foo=1,bar=2,foo=3",
        f"{'z' * 257}=1",
        f"{'t' * 242}@v=1",
        f"t@{'v' * 15}=1",
        f"a={'v' * 257}",
        "a=\x7f",
        "a=b\tc",
        "a=\xe9",
    ],
)
def test_tracestates_that_are_not(value: str) -> None:
    assert not parse_tracestate([value])


def test_a_tracestate_of_more_than_32_members_is_dropped_and_the_trace_kept() -> None:
    found = traced(("traceparent", PARENT), ("tracestate", ",".join(f"b{number:02}=1" for number in range(33))))
    assert found == Trace(TRACE_ID, "2" * 16, SPAN_ID, is_sampled=True)
