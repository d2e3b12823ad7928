import msgspec
import pytest

from gateway.config.model import CustomerId
from gateway.session.customer_id import Place, Unreadable, decode_body, resolve
from tests.upstream.answers import an_answer

BY_HEADER = Place.of(CustomerId(header="X-Customer-Id"))
BY_POINTER = Place.of(CustomerId(json="/user/customerId"))


def by_header(*values: str) -> str:
    return BY_HEADER.read(an_answer(200, tuple(("x-customer-id", value) for value in values)))


def by_pointer(value: object) -> str:
    return BY_POINTER.read(an_answer(200), {"user": {"customerId": value}})


@pytest.mark.parametrize("customer_id", ["1", "a" * 64, "user 42", "!~", "a, b", "2088-0001@mpp.example", '"'])
def test_an_id_is_returned_as_it_is(customer_id: str) -> None:
    assert by_header(customer_id) == customer_id
    assert by_pointer(customer_id) == customer_id


@pytest.mark.parametrize(
    "customer_id",
    [
        pytest.param("", id="B6-empty"),
        pytest.param("a" * 65, id="B6-over-64"),
        pytest.param("a\x00", id="B6-nul"),
        pytest.param("a\tb", id="B6-tab"),
        pytest.param("a\n", id="B6-line-feed"),
        pytest.param("a\x7f", id="B6-delete"),
        pytest.param("\u00fcser", id="B6-not-ascii"),
        pytest.param(" ", id="B6-space-only"),
    ],
)
def test_a_malformed_id_is_never_repaired(customer_id: str) -> None:
    for read in (by_header, by_pointer):
        with pytest.raises(Unreadable) as fault:
            read(customer_id)
        assert "malformed" in fault.value.reason


@pytest.mark.parametrize(
    "customer_id",
    [
        pytest.param("a\r\nX-Admin: 1", id="B6-line-break"),
        pytest.param(" a", id="B6-space-before"),
        pytest.param("a ", id="B6-space-after"),
        pytest.param("\uff11", id="B6-full-width-digit"),
    ],
)
def test_a_malformed_id_that_no_header_can_hold_is_never_repaired(customer_id: str) -> None:
    with pytest.raises(Unreadable) as fault:
        by_pointer(customer_id)
    assert "malformed" in fault.value.reason


@pytest.mark.parametrize("value", [None, 1, 1.5, True, ["user-1"], {"id": "user-1"}])
def test_B6_only_a_string_is_an_id(value: object) -> None:
    with pytest.raises(Unreadable):
        by_pointer(value)


def test_B6_an_absent_or_repeated_header_is_no_id() -> None:
    for values in ((), ("user-1", "user-2"), ("user-1", "user-1")):
        with pytest.raises(Unreadable):
            by_header(*values)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
        ("/o~01", 9),
        ("/foo/2", None),
        ("/foo/00", None),
        ("/foo/-", None),
        ("/foo/-1", None),
        ("/foo/\u0660", None),
        ("/foo/9999999", None),
        ("/foo/0/0", None),
        ("/bar", None),
    ],
)
def test_pointers_are_read_as_in_RFC_6901(pointer: str, value: object) -> None:
    document = msgspec.json.decode(
        rb'{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8, "o~1": 9}'
    )
    assert resolve(document, Place.of(CustomerId(json=pointer)).path) == value


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="B6-nothing"),
        pytest.param(b"<html><body>Please log in</body></html>", id="B6-html"),
        pytest.param(b'{"user": {"customerId": "user-1"', id="B6-truncated"),
        pytest.param(b'{"user": {"customerId": "user-1"}} x', id="B6-more-after-it"),
        pytest.param(b'\xef\xbb\xbf{"user": 1}', id="B6-byte-order-mark"),
        pytest.param(b'{"user": "\xff"}', id="B6-bad-utf8"),
        pytest.param('{"user": "x"}'.encode("utf-16"), id="B6-utf16"),
        pytest.param(b"[" * 60000, id="B6-deep"),
        pytest.param(b"[" * 30000 + b"]" * 30000, id="B6-deep-and-closed"),
        pytest.param(b"NaN", id="B6-nan"),
    ],
)
def test_what_is_not_json_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable) as fault:
        decode_body(an_answer(200, (), body))
    assert fault.value.__cause__ is None


@pytest.mark.parametrize("codings", [("gzip",), ("identity, gzip",), ("identity", "br"), ("", "br")])
def test_B6_a_body_under_a_content_coding_is_unreadable(codings: tuple[str, ...]) -> None:
    with pytest.raises(Unreadable):
        decode_body(an_answer(200, tuple(("content-encoding", coding) for coding in codings), b"{}"))


@pytest.mark.parametrize("value", ["Identity", "", " "])
def test_identity_is_no_content_coding_and_neither_is_nothing(value: str) -> None:
    assert decode_body(an_answer(200, (("content-encoding", value),), b"{}")) == {}
