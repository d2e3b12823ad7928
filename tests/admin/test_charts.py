import re
from itertools import pairwise

from gateway.admin import charts
from gateway.admin.history import STEPS
from tests.admin.reading import Element, read
from tests.admin.states import sums


def paths(svg: str) -> dict[str | None, Element]:
    return {path.attributes["class"]: path for path in read(svg).all("path")}


def bars(path: Element) -> list[tuple[float, float, float]]:
    """Left edge, floor and top of each bar."""
    found = re.findall(r"M(\S+) (\S+)V(\S+)h", path.attributes["d"] or "")
    return [(float(left), float(floor), float(top)) for left, floor, top in found]


def test_outcomes_stand_on_each_other_and_the_newest_at_the_right_edge() -> None:
    drawn = paths(charts.outcomes([sums(50, 25, 25), sums(0, 0, 0), sums(25, 0, 0)], "words"))
    assert list(drawn) == ["failed", "refused", "ok", "failed now", "refused now", "ok now"]
    assert [bar[1:] for bar in bars(drawn["failed"])] == [(100.0, 75.0)]
    assert [bar[1:] for bar in bars(drawn["refused"])] == [(75.0, 50.0)]
    assert [bar[1:] for bar in bars(drawn["ok"])] == [(50.0, 0.0)]
    [last] = bars(drawn["ok now"])
    assert last == ((STEPS - 1) * 10 + charts.GAP / 2, 100.0, 75.0)


def test_one_failure_among_very_many_is_seen_and_nothing_leaves_the_chart() -> None:
    drawn = paths(charts.outcomes([sums(1_000_000, 1, 1), sums(0)], "words"))
    [(_, floor, top)] = bars(drawn["failed"])
    assert floor - top == charts.LEAST
    assert all(0 <= top <= floor <= 100 for path in drawn.values() for _, floor, top in bars(path))


def test_times_stand_on_a_logarithmic_scale_within_its_ends() -> None:
    heights = [charts.scaled(seconds) for seconds in (0.0, 0.001, 0.01, 0.1, 1.0, 10.0, 30.0, 600.0)]
    assert (heights[0], heights[1], heights[-2], heights[-1]) == (0, 0, 100, 100)
    assert len({round(above - below, 6) for below, above in pairwise(heights[1:6])}) == 1
    drawn = paths(charts.latencies([sums(p50=0.1, p99=10.0), sums(p50=None, p99=None)], "words"))
    assert list(drawn) == ["p99", "p50", "grid"]
    assert len(bars(drawn["p99"])) == len(bars(drawn["p50"])) == 1


def test_without_requests_a_chart_is_empty_and_says_so_in_words() -> None:
    [svg] = read(charts.outcomes([sums(0, 0, 0)], 'no "calls"')).all("svg")
    assert (svg.attributes["role"], svg.attributes["aria-label"]) == ("img", 'no "calls"')
    assert not any(path.attributes["d"] for path in svg.all("path"))
