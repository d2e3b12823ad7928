import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.session.check import FORBIDDEN, denied, unavailable, valid
from gateway.session.freshness import keep_for, lifetime
from gateway.upstream import Answer
from tests.upstream.answers import an_answer


def cache_control(*values: str, age: str | None = None) -> Answer:
    fields = tuple(("cache-control", value) for value in values)
    return an_answer(200, fields if age is None else (*fields, ("age", age)))


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ((), None),
        (("",), None),
        (("private",), None),
        (("public, must-revalidate",), None),
        (("max-age=60",), 60),
        (("MAX-AGE=60",), 60),
        (("private, max-age=60, must-revalidate",), 60),
        (("private,max-age=60",), 60),
        (('max-age="60"',), 60),
        (("max-age=0",), 0),
        (("max-age=007",), 7),
        (("max-age=60, s-maxage=10",), 10),
        (("s-maxage=100, max-age=60",), 60),
        (("max-age=60", "max-age=30"), 30),
        (("no-store",), 0),
        (("No-Cache",), 0),
        (("max-age=60, no-store",), 0),
        (("max-age=60", "no-cache"), 0),
        (('no-cache="Set-Cookie"',), 0),
        (('private="x", max-age=5',), 5),
        (('ext="max-age=5, no-store", max-age=9',), 9),
        (('ext="a\\"b, no-store", max-age=9',), 9),
        (("x-max-age=5",), None),
        (("max-age",), 0),
        (("max-age=",), 0),
        (("max-age=abc",), 0),
        (("max-age=-1",), 0),
        (("max-age=1.5",), 0),
        (("max-age=1e3",), 0),
        (("max-age=\xb2",), 0),
        (("max-age=9999999999",), 9999999999),
        (("max-age=99999999999",), 0),
        (("max-age=60;no-store",), 0),
    ],
)
def test_Cache_Control_is_read_as_in_RFC_9111_and_the_shortest_time_counts(values: tuple[str, ...], seconds: float | None) -> None:
    assert lifetime(cache_control(*values)) == seconds


@pytest.mark.parametrize(("age", "seconds"), [("0", 60), ("50", 10), ("60", 0), ("100", 0), ("x", 60), ("-5", 60)])
def test_the_age_of_an_answer_is_deducted(age: str, seconds: float) -> None:
    assert lifetime(cache_control("max-age=60", age=age)) == seconds


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_any_Cache_Control_can_be_read(value: str) -> None:
    seconds = lifetime(cache_control(value))
    assert seconds is None or seconds >= 0


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.none() | st.floats(-1e9, 1e9), st.sampled_from(["", "max-age=7", "no-store"]))
def test_nothing_is_kept_longer_than_configured(ttl: float, negative_ttl: float, expires_at: float | None, value: str) -> None:
    for verdict, configured in ((valid("u", expires_at=expires_at), ttl), (denied(), negative_ttl), (FORBIDDEN, negative_ttl)):
        kept = keep_for(verdict, cache_control(value), ttl=ttl, negative_ttl=negative_ttl, wall_time=0.0)
        assert 0 <= kept <= configured
        assert kept <= 7 or not value


def test_each_outcome_is_kept_for_its_time() -> None:
    times = [keep_for(verdict, an_answer(200), ttl=60, negative_ttl=5, wall_time=0) for verdict in (valid("u"), denied(), FORBIDDEN)]
    assert times == [60, 5, 5]


def test_B7_unavailable_is_never_kept() -> None:
    assert keep_for(unavailable("x"), cache_control("max-age=60"), ttl=60, negative_ttl=60, wall_time=0) == 0


def test_max_age_and_exp_shorten_and_never_lengthen() -> None:
    assert keep_for(valid("u"), cache_control("max-age=10"), ttl=60, negative_ttl=0, wall_time=0) == 10
    assert keep_for(valid("u"), cache_control("max-age=100"), ttl=60, negative_ttl=0, wall_time=0) == 60
    assert keep_for(valid("u", expires_at=1030), an_answer(200), ttl=60, negative_ttl=0, wall_time=1000) == 30
    assert keep_for(valid("u", expires_at=990), an_answer(200), ttl=60, negative_ttl=0, wall_time=1000) == 0
    assert keep_for(valid("u"), cache_control("max-age=10"), ttl=0, negative_ttl=60, wall_time=0) == 0


def test_an_exp_that_cannot_be_read_lets_nothing_be_kept() -> None:
    assert keep_for(valid("u", expires_at=0.0), an_answer(200), ttl=60, negative_ttl=0, wall_time=1000) == 0
