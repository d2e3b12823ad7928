import pytest

from gateway.admin import words


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3725, "1 h 2 min"), (90_061, "1 d 1 h"), (86_405, "1 d")]
)
def test_spans(seconds: float, text: str) -> None:
    assert words.span(seconds) == text
    assert words.span(-5) == "0 s"


@pytest.mark.parametrize(("seconds", "text"), [(None, words.NOTHING), (0.0021, "2.1 ms"), (0.1234, "123 ms"), (11.96, "12.0 s")])
def test_what_a_request_took(seconds: float | None, text: str) -> None:
    assert words.took(seconds) == text


@pytest.mark.parametrize(("part", "whole", "text"), [(0, 0, "0 %"), (1, 100_000, "< 0.1 %"), (1, 30, "3.3 %"), (9, 10, "90 %")])
def test_shares_what_is_not_nothing_is_never_0(part: int, whole: int, text: str) -> None:
    assert words.share(part, whole) == text


@pytest.mark.parametrize(("count", "seconds", "text"), [(0, 0, "0/s"), (1, 60, "0.02/s"), (30, 60, "0.5/s"), (72_000, 60, "1,200/s")])
def test_rates(count: int, seconds: float, text: str) -> None:
    assert words.rate(count, seconds) == text


def test_moments_are_in_utc_and_have_their_day_where_it_is_another() -> None:
    noon = 1_800_000_000.0
    assert words.moment(noon, noon + 60) == '<time datetime="2027-01-15T08:00:00+00:00">08:00:00</time>'
    assert ">2027-01-15 08:00<" in words.moment(noon, noon + 86_400)
    assert ">2027-01-15<" in words.day(noon)
    assert (words.number(None), words.number(1234.4)) == (words.NOTHING, "1,234")
