"""The likely mistakes in a signed text: that each changes something, and that no odd input stops them."""

import itertools
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.alipayplus.mistakes import ASPECTS, Aspect, Text
from gateway.alipayplus.signature import string_to_sign

URI = "/aps/api/v1/mobile/sdkProxy"


def test_a_text_without_mistakes_is_the_one_that_is_signed() -> None:
    text = Text(URI, "T_1", "2019-05-28T12:12:12+08:00", b"{}")
    assert text.head() + text.body == string_to_sign(URI, "T_1", "2019-05-28T12:12:12+08:00", b"{}")


BODIES: Final = (b"", b'{"b":"/\xe2\x82\xac",\r\n"a":1}\n', b"\xef\xbb\xbf{}", b"\xff\n", b"[" * 5000)
TIMES: Final = ("2019-05-28T12:12:12+08:00", "1559016732000", "1559016732", "noon", "", "9" * 40, "0001-01-01", "9999-12-31T23:59:59+00:00")
URIS: Final = (URI, "/a/?b=c", "https://host/a%20b?c", "https://host", "", "http://[")


@pytest.mark.parametrize("aspect", ASPECTS, ids=[aspect.__name__ for aspect in ASPECTS])
def test_every_mistake_can_be_tried_on_any_text(aspect: Aspect) -> None:
    for body, time, uri in itertools.product(BODIES, TIMES, URIS):
        for says, variant in aspect(Text(uri, "T_1", time, body)):
            assert says
            assert isinstance(variant.head() + variant.body, bytes)


@given(body=st.binary(max_size=60), time=st.text(max_size=30), uri=st.text(max_size=30), client_id=st.text(max_size=20))
def test_every_pair_of_mistakes_can_be_tried_on_any_text(body: bytes, time: str, uri: str, client_id: str) -> None:
    for first, second in itertools.combinations(ASPECTS, 2):
        for _, variant in itertools.islice(first(Text(uri, client_id, time, body)), 3):
            for _, other in itertools.islice(second(variant), 3):
                other.head()
