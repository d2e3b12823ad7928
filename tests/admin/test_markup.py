from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.markup import Markup, el, text
from tests.admin.reading import read


def test_elements_hold_text_numbers_markup_and_several_of_them() -> None:
    assert el("p", "a & b", None, 3, [el("b", "c"), "<"]) == "<p>a &amp; b3<b>c</b>&lt;</p>"


def test_attributes_are_there_or_not() -> None:
    assert el("a", class_="x y", aria_label='"', hidden=True, id=None, open=False) == '<a class="x y" aria-label="&quot;" hidden></a>'
    assert el("meta", name="a", content=5) == '<meta name="a" content="5">'


@given(st.text(alphabet="<>&\"'=/ab\n\x00\u2028", max_size=40))
def test_no_text_becomes_markup(value: str) -> None:
    document = read(el("p", value, title=value, data_x=value))
    [paragraph] = [one for one in document.all() if one is not document]
    assert paragraph.text.replace("\ufffd", "\x00") == value
    assert paragraph.attributes.keys() == {"title", "data-x"}
    assert isinstance(text(value), Markup)
