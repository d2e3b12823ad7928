from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.passthrough import headers
from gateway.passthrough.headers import HeaderRules, RequestHeaders, block_of, host_value, spelling
from gateway.upstream.message import Field, Head, field_names

IDENTITY_NAMES = ("X-Customer-Id", "X-Customer-Tier", "X-Client-Subject")
CONTEXT = [(b"X-Forwarded-For", b"198.51.100.1"), (b"X-Real-IP", b"198.51.100.1"), (b"X-Request-Id", b"ours"), (b"traceparent", b"00-ours")]
IDENTITY = [(b"X-Customer-Id", b"0001")]
NO_RULES = HeaderRules()

TOKEN = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=12).map(str.encode)
VALUE = st.binary(max_size=12).filter(lambda value: not any(byte < 32 or byte == 127 for byte in value))
FIELDS = st.lists(st.tuples(TOKEN, VALUE), max_size=8)


def fields_of(block: bytes) -> list[Field]:
    """What a server reads of a block."""
    assert block.count(b"\r\n") == block.count(b"\n") == block.count(b"\r")
    assert not block or block.startswith(b"\r\n")
    lines = [line.partition(b": ") for line in block.split(b"\r\n")[1:]]
    return [(name, value) for name, _, value in lines]


def build(fields: Sequence[Field], rules: HeaderRules = NO_RULES, *, context: Sequence[Field] = (), **options: Any) -> list[Field]:
    """The fields that the upstream gets, read from the block."""
    made = RequestHeaders(rules, IDENTITY_NAMES)
    first, again = (made.build(fields, host=b"api.example", context=block_of(context), **options) for _ in range(2))
    assert first == again  # what is remembered of names changes nothing
    return fields_of(first)


def for_client(fields: Sequence[Field], rules: HeaderRules = NO_RULES, **options: Any) -> list[Field]:
    """The fields that the client gets of an answer with these."""
    lines = [b": ".join(field) for field in fields]
    return fields_of(headers.for_client(Head(200, b"OK", lines, field_names(lines)), rules, **options))


def rules(*, replace: dict[str, str] | None = None, add: dict[str, str] | None = None, remove: tuple[str, ...] = ()) -> HeaderRules:
    return HeaderRules.read(replace=replace or {}, add=add or {}, remove=remove, reserved=IDENTITY_NAMES)


def sent(*fields: Field, rules: HeaderRules = NO_RULES, **options: Any) -> list[Field]:
    """What the upstream gets of the client's fields, without Host and ours."""
    built = build(fields, rules, context=CONTEXT, identity=block_of(IDENTITY), **options)
    assert built[0] == (b"Host", b"api.example")
    assert [field for field in built if field in CONTEXT] == CONTEXT
    assert [field for field in built if field in IDENTITY] == IDENTITY
    return [field for field in built[1:] if field not in CONTEXT and field not in IDENTITY]


# Requests


def test_what_a_request_has_is_passed_on_in_order_repeated_and_byte_for_byte() -> None:
    fields = [
        (b"accept", b"*/*"),
        (b"COOKIE", b"a=1; b=\xff"),
        (b"Authorization", b"Bearer abc"),
        (b"X-Twice", b"1"),
        (b"Content-Type", b"text/plain"),
        (b"x-twice", b""),
        (b"Accept-Encoding", b"br"),
        (b"Range", b"bytes=0-1"),
        (b"Via", b"1.1 somebody"),
        (b"Sec-WebSocket-Key", b"abc"),
        (b"X_Other_Name", b"kept"),
    ]
    assert sent(*fields) == fields


def test_ours_stand_behind_the_client_s() -> None:
    built = build([(b"A", b"1")], context=CONTEXT, identity=block_of(IDENTITY))
    assert built == [(b"Host", b"api.example"), (b"A", b"1"), *CONTEXT, *IDENTITY]


@pytest.mark.parametrize(
    "name",
    [
        *["Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "TE", "Trailer", "Upgrade", "te"],
        *["Proxy-Authentication-Info", "Content-Length", "Transfer-Encoding", "content_length", "Transfer_Encoding"],
        *["Host", "HOST", "Expect"],
    ],
)
def test_hop_by_hop_and_framing_fields_are_never_copied(name: str) -> None:
    assert sent((name.encode(), b"x"), (b"A", b"1"), (name.encode(), b"y")) == [(b"A", b"1")]


@pytest.mark.parametrize(
    "values",
    [
        [b"close, X-Private"],
        [b"x-private"],
        [b"keep-alive", b"X-PRIVATE"],
        [b" ,\tX-Private\t,,"],
        [b"X_Private"],
    ],
)
def test_what_connection_names_is_removed(values: list[bytes]) -> None:
    named = [(b"Connection", value) for value in values]
    assert sent((b"X-Private", b"1"), *named, (b"x-private", b"2"), (b"X-Other", b"3")) == [(b"X-Other", b"3")]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"X-Customer-Id", id="G3-identity"),
        pytest.param(b"x-customer-id, X-Forwarded-For, X-Real-IP, X-Request-Id, traceparent", id="G3-all-of-ours"),
        pytest.param(b"close, Host", id="G3-host"),
    ],
)
def test_connection_never_takes_what_is_ours(value: bytes) -> None:
    assert sent((b"Connection", value), (b"X-Customer-Id", b"evil"), (b"Host", b"evil"), (b"X-Forwarded-For", b"evil")) == []


@given(FIELDS, st.sampled_from([b"Connection", b"CONNECTION", b"connection"]), st.sampled_from([b"keep-alive", b"Keep-Alive", b"close"]))
def test_the_usual_connection_takes_no_other_way_than_one_that_has_to_be_read(fields: list[Field], name: bytes, value: bytes) -> None:
    place = len(fields) // 2
    usual, unusual = ([*fields[:place], (name, said), *fields[place:]] for said in (value, value + b", keep-alive"))
    assert sent(*usual) == sent(*unusual)


def test_G3_connection_never_takes_what_a_rule_sets() -> None:
    assert sent((b"Connection", b"X-Gateway"), (b"X-Gateway", b"evil"), rules=rules(replace={"X-Gateway": "a"})) == [(b"X-Gateway", b"a")]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"X-Customer-Id", id="G2-as-it-is"),
        pytest.param(b"x-customer-id", id="G2-lower"),
        pytest.param(b"X-CUSTOMER-ID", id="G2-upper"),
        pytest.param(b"X_Customer_Id", id="G2-underscores"),
        pytest.param(b"x_CUSTOMER-id", id="G2-mixed"),
        pytest.param(b"X.Customer.Id", id="G2-dots"),
        pytest.param(b"X-Customer_Tier", id="G2-forwarded-header"),
        pytest.param(b"x_client_subject", id="G2-tls-subject"),
    ],
)
@pytest.mark.parametrize("is_trusted", [True, False])
def test_identity_that_a_client_claims_is_removed(name: bytes, is_trusted: bool) -> None:  # noqa: FBT001  a parameter
    assert sent((name, b"evil"), (b"A", b"1"), (name, b"evil"), is_trusted=is_trusted) == [(b"A", b"1")]


def test_G2_without_a_session_nobody_is_claimed_to_call() -> None:
    assert build([(b"X_Customer_Id", b"evil")]) == [(b"Host", b"api.example")]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"X-Forwarded-For", id="G1-for"),
        pytest.param(b"X_Forwarded_For", id="G1-underscores"),
        pytest.param(b"x-forwarded-proto", id="G1-proto"),
        pytest.param(b"X-Forwarded-Host", id="G1-host"),
        pytest.param(b"X-Forwarded-User", id="G1-user"),
        pytest.param(b"X-Forwarded-Client-Cert", id="G1-certificate"),
        pytest.param(b"X_FORWARDED_PREFIX", id="G1-prefix"),
        pytest.param(b"Forwarded", id="G1-forwarded"),
        pytest.param(b"X-Real-IP", id="G1-real-ip"),
        pytest.param(b"X_Real-IP", id="G1-real-ip-underscore"),
        pytest.param(b"X-Request-ID", id="G1-request-id"),
        pytest.param(b"Traceparent", id="G1-traceparent"),
        pytest.param(b"tracestate", id="G1-tracestate"),
    ],
)
def test_what_says_who_is_calling_is_removed(name: bytes) -> None:
    assert sent((name, b"evil"), (b"A", b"1"), (name, b"evil")) == [(b"A", b"1")]


def test_G1_what_else_a_trusted_proxy_forwards_stays() -> None:
    kept = [(b"X-Forwarded-Port", b"443"), (b"Forwarded", b"for=203.0.113.9")]
    rewritten = [(b"X-Forwarded-For", b"203.0.113.9"), (b"x-forwarded-proto", b"http"), (b"X_Forwarded_Host", b"theirs.example")]
    rewritten += [(b"x_real_ip", b"1"), (b"X-Request-Id", b"theirs"), (b"Traceparent", b"00-theirs"), (b"tracestate", b"a=1")]
    assert sent(*kept, *rewritten, is_trusted=True) == kept


@pytest.mark.parametrize("is_trusted", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"X-HTTP-Method-Override", id="G5-method"),
        pytest.param(b"x_http_method_override", id="G5-method-underscores"),
        pytest.param(b"X-HTTP-Method", id="G5-method-short"),
        pytest.param(b"X-Method-Override", id="G5-method-other"),
        pytest.param(b"X-Original-URL", id="G5-original-url"),
        pytest.param(b"X_Original_Url", id="G5-original-url-underscores"),
        pytest.param(b"X-REWRITE-URL", id="G5-rewrite-url"),
        pytest.param(b"X-Rewrite_URL", id="G5-rewrite-url-underscore"),
        pytest.param(b"SCRIPT_NAME", id="G5-gunicorn"),
        pytest.param(b"script_name", id="G5-gunicorn-lower"),
        pytest.param(b"Daphne-Root-Path", id="G5-daphne"),
        pytest.param(b"X-Script-Name", id="G5-mod_wsgi"),
        pytest.param(b"Proxy", id="G5-httpoxy"),
    ],
)
def test_what_overrides_method_or_path_is_never_passed_on(name: bytes, is_trusted: bool) -> None:  # noqa: FBT001  a parameter
    assert sent((name, b"evil"), is_trusted=is_trusted) == []


def test_A16_expect_stays_only_if_the_forwarding_says_so() -> None:
    expect = (b"Expect", b"100-continue")
    assert sent(expect) == []
    assert sent(expect, keeps_expect=True) == [expect]


def test_an_upgrade_is_asked_for_only_if_the_forwarding_says_so() -> None:
    asked = [(b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"x")]
    assert sent(*asked) == []
    assert sent(*asked, upgrade=b"websocket") == [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]


def test_the_host_is_the_client_s_or_the_upstream_s() -> None:
    assert host_value("client", b"api.example", b"10.0.0.1:80") == b"api.example"
    assert host_value("upstream", b"api.example", b"10.0.0.1:80") == b"10.0.0.1:80"
    assert host_value("client", b"", b"10.0.0.1:80") == b"10.0.0.1:80"


FOREIGN = st.sampled_from([*IDENTITY_NAMES, "Transfer-Encoding", "X-Forwarded-For", "Host", "X-Original-URL", "Connection", "X-Request-Id"])


@st.composite
def twins(draw: st.DrawFn) -> bytes:
    """A spelling of a name that only the gateway may set."""
    letters = draw(FOREIGN)
    return "".join(draw(st.sampled_from([letter.lower(), letter.upper(), "_" if letter == "-" else letter])) for letter in letters).encode()


@given(FIELDS, st.lists(st.tuples(twins(), VALUE), min_size=1), st.booleans(), st.randoms())
def test_G2_whatever_is_sent_the_gateway_s_own_names_hold_the_gateway_s_own_values(
    fields: list[Field],
    claims: list[Field],
    is_trusted: bool,  # noqa: FBT001  drawn
    order: Any,
) -> None:
    mixed = [*fields, *claims]
    order.shuffle(mixed)
    built = build(mixed, context=CONTEXT, identity=block_of(IDENTITY), is_trusted=is_trusted)
    own = {
        spelling(name.encode())
        for name in (*IDENTITY_NAMES, "Transfer-Encoding", "X-Forwarded-For", "Host", "X-Original-URL", "X-Request-Id")
    }
    assert [field for field in built if spelling(field[0]) in own] == [(b"Host", b"api.example"), CONTEXT[0], CONTEXT[2], *IDENTITY]


@given(FIELDS)
def test_all_else_passes_unchanged(fields: list[Field]) -> None:
    fields = [(b"x-app-" + name, value) for name, value in fields]
    assert sent(*fields) == fields


# Answers


def test_an_answer_is_passed_on_in_order_repeated_and_byte_for_byte() -> None:
    fields = [
        (b"content-type", b"text/html"),
        (b"Set-Cookie", b"a=1"),
        (b"SERVER", b"nginx"),
        (b"Set-Cookie", b"b=2"),
        (b"set-cookie", b"a=3"),
        (b"Content-Encoding", b"gzip"),
        (b"Location", b"http://elsewhere.example/"),
        (b"X_Content_Length", b"\xff\t"),
        (b"Content_Length", b"only framing if it is spelt so"),
        (b"WWW-Authenticate", b"Basic"),
        (b"X-Empty", b""),
    ]
    assert for_client(fields) == fields


def test_hop_by_hop_and_framing_fields_of_an_answer_are_never_copied() -> None:
    names = ["Connection", "keep-alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info", "TE", "Trailer", "Upgrade"]
    names += ["Content-Length", "CONTENT-LENGTH", "Transfer-Encoding"]
    assert for_client([(name.encode(), b"x") for name in names]) == []


def test_what_an_answer_s_connection_names_is_removed() -> None:
    fields = [(b"X-Private", b"1"), (b"Connection", b"x-PRIVATE, close"), (b"A", b"2")]
    assert for_client(fields, request_id=b"1") == [(b"A", b"2"), (b"X-Request-Id", b"1")]


@pytest.mark.parametrize("value", [b"keep-alive", b"Keep-Alive", b"close", b"", b", ,", b"keep-alive, close"])
def test_what_a_connection_usually_says_takes_nothing_else_away(value: bytes) -> None:
    assert for_client([(b"Connection", value), (b"Keep-Alive", b"timeout=5"), (b"A", b"2")]) == [(b"A", b"2")]
    assert sent((b"Connection", value), (b"Keep-Alive", b"timeout=5"), (b"A", b"2")) == [(b"A", b"2")]


@pytest.mark.parametrize("theirs", [[], [(b"X-Request-Id", b"theirs")]])
def test_G3_an_answer_s_connection_never_takes_what_is_ours(theirs: list[Field]) -> None:
    assert for_client([(b"Connection", b"X-Request-Id"), *theirs], request_id=b"1") == [(b"X-Request-Id", b"1")]


def test_an_answer_that_has_an_id_keeps_it() -> None:
    fields = [(b"x-request-id", b"theirs"), (b"A", b"1"), (b"X-REQUEST-ID", b"theirs")]
    assert for_client(fields, request_id=b"ours") == fields
    assert for_client(fields[1:2], request_id=b"ours") == [(b"A", b"1"), (b"X-Request-Id", b"ours")]
    assert for_client([(b"X-Request-Id-Of", b"1")], request_id=b"ours") == [(b"X-Request-Id-Of", b"1"), (b"X-Request-Id", b"ours")]


def test_D8_the_upgrade_of_an_answer_is_what_the_forwarding_says() -> None:
    fields = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", b"x")]
    assert for_client(fields, upgrade=b"websocket") == [fields[2], *fields[:2]]


def test_D3_a_line_break_gets_into_no_block() -> None:
    for field in [(b"A", b"1\r\nB: 2"), (b"A", b"1\n"), (b"A", b"\r"), (b"A\r\nB", b"1")]:
        with pytest.raises(ValueError, match="line break"):
            block_of([(b"X", b"1"), field])


def test_an_empty_answer_stays_empty() -> None:
    assert for_client([]) == []
    assert for_client([], request_id=b"1") == [(b"X-Request-Id", b"1")]


@given(FIELDS)
def test_of_an_answer_all_else_passes_unchanged(fields: list[Field]) -> None:
    fields = [(b"x-app-" + name, value.strip()) for name, value in fields]
    assert for_client(fields) == fields


# Rules


def test_rules_remove_then_set_then_add() -> None:
    applied = rules(replace={"X-Set": "new", "X-New": "1"}, add={"X-Add": "2", "X-Set": "more"}, remove=("X-Debug",))
    fields = [(b"x-set", b"old"), (b"X-Add", b"1"), (b"X-DEBUG", b"1"), (b"X-Set", b"old"), (b"A", b"1")]
    expected = [(b"X-Add", b"1"), (b"A", b"1"), (b"X-Set", b"new"), (b"X-New", b"1"), (b"X-Add", b"2"), (b"X-Set", b"more")]
    assert sent(*fields, rules=applied) == expected
    assert for_client(fields, applied) == expected


def test_rules_remove_every_spelling() -> None:
    fields = [(b"X_Debug", b"1"), (b"x-debug", b"2"), (b"X-Debugger", b"3")]
    assert sent(*fields, rules=rules(remove=("X-Debug",))) == [fields[2]]


def test_rules_may_change_what_the_upstream_is_told_of_the_way() -> None:
    applied = rules(remove=("X-Real-IP",), replace={"X-Forwarded-Proto": "https"})
    built = build([], applied, context=[*CONTEXT, (b"X-Forwarded-Proto", b"http")], identity=block_of(IDENTITY))
    assert built == [(b"Host", b"api.example"), CONTEXT[0], *CONTEXT[2:], (b"X-Forwarded-Proto", b"https"), *IDENTITY]


@pytest.mark.parametrize(
    "name", ["X-Customer-Id", "x_customer_tier", "Content-Length", "transfer_encoding", "Connection", "Upgrade", "Host", "TE"]
)
def test_rules_for_the_gateway_s_own_names_are_errors(name: str) -> None:
    cases: list[dict[str, Any]] = [{"replace": {name: "1"}}, {"add": {name: "1"}}, {"remove": (name,)}]
    for case in cases:
        with pytest.raises(ValueError, match=f"{name} is the gateway's own"):
            rules(**case)


def test_all_that_is_wrong_with_rules_is_named_and_no_value() -> None:
    with pytest.raises(ValueError) as caught:
        rules(replace={"X A": "1"}, add={"X-B": "secret\r\n"}, remove=("", "Host"))
    assert str(caught.value) == "'' is not a field name; 'X A' is not a field name; Host is the gateway's own; X-B has a control character"


@pytest.mark.parametrize(("name", "common"), [(b"X_Customer-ID", b"x-customer-id"), (b"x.a!b", b"x-a-b"), (b"A9", b"a9")])
def test_spelling(name: bytes, common: bytes) -> None:
    assert spelling(name) == common
