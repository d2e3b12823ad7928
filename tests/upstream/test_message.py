import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream import request_head
from tests.upstream.answers import an_answer


def test_a_head_is_written_as_it_is_given() -> None:
    head = request_head("GET", b"/a%2F?x=%zz", [(b"Host", b"a"), (b"Cookie", b"a=b"), (b"cookie", b"c=\xff\t"), (b"X", b"")])
    assert head == b"GET /a%2F?x=%zz HTTP/1.1\r\nHost: a\r\nCookie: a=b\r\ncookie: c=\xff\t\r\nX: \r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "name", "value"),
    [
        ("GET ", b"/", b"A", b"b"),
        ("", b"/", b"A", b"b"),
        ("GET\r\n", b"/", b"A", b"b"),
        ("GÉT", b"/", b"A", b"b"),
        ("GET", b"", b"A", b"b"),
        ("GET", b"/a b", b"A", b"b"),
        ("GET", b"/\r\nX: y", b"A", b"b"),
        ("GET", b"/\0", b"A", b"b"),
        ("GET", b"/", b"", b"b"),
        ("GET", b"/", b"A B", b"b"),
        ("GET", b"/", b"A:", b"b"),
        ("GET", b"/", b"A\n", b"b"),
        ("GET", b"/", b"A", b"b\r\nC: d"),
        ("GET", b"/", b"A", b"b\n"),
        ("GET", b"/", b"A", b"b\0"),
        ("GET", b"/", b"A", b"\x7f"),
    ],
)
def test_D3_nothing_can_be_slipped_into_a_head(method: str, target: bytes, name: bytes, value: bytes) -> None:
    with pytest.raises(ValueError):
        request_head(method, target, [(name, value)])


def test_fields_of_an_answer_are_found_by_name() -> None:
    answer = an_answer(200, (("A", "1"), ("b", "2"), ("a", " 3\t"), ("ab", "a: 4"), ("C", "\xe9")), b"")
    assert (answer.get("a"), answer.get("d"), answer.all("a"), answer.all("d")) == ("1", None, ["1", "3"], [])
    assert (answer.get("b"), answer.get("ab"), answer.get("c")) == ("2", "a: 4", "\xe9")
    assert answer.head.fields == ((b"A", b"1"), (b"b", b"2"), (b"a", b"3"), (b"ab", b"a: 4"), (b"C", b"\xe9"))


NAMES = st.text("aBc-", min_size=1, max_size=3)
VALUES = st.text("aBc-: \t\xe9", max_size=4)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6), NAMES)
def test_what_is_found_by_name_is_what_the_fields_say(fields: list[tuple[str, str]], name: str) -> None:
    answer = an_answer(200, fields)
    found = [value.strip(" \t") for key, value in fields if key.lower() == name.lower()]
    assert answer.all(name.lower()) == found
    assert answer.get(name.lower()) == (found[0] if found else None)
    assert [value.decode("latin-1") for key, value in answer.head.fields if key.decode().lower() == name.lower()] == found
