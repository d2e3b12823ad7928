"""The page as text: every fact is in it, nothing breaks out of its place, and it keeps to its own policy."""

import re
from pathlib import Path
from typing import Any, get_args
from zipfile import ZipFile

import msgspec
import pytest
from hatchling.builders.wheel import WheelBuilder
from msgspec import structs

from gateway.admin.in_force import CertificateShown, KeyShown, LimitShown, RouteShown
from gateway.admin.page import asset, page
from gateway.admin.status import Concern, Load, ReloadShown, Section, ServiceStatus
from gateway.admin.traffic import ResultCount
from tests.admin.reading import Element, read
from tests.admin.states import NOW, endpoint, failed, in_force, pool, status, traffic, worker

HOSTILE = "</code><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;\x00\u2028"


def full(text: str) -> ServiceStatus:
    """A state that has this text wherever a text of the configuration, of a worker or of a fault may stand."""
    found = status(
        version=text,
        host=text,
        config=text,
        listen=(text,),
        sdk_prefix=text,
        warnings=(text,),
        ready=False,
        reasons=(text,),
        reload=ReloadShown(NOW, False, NOW - 60, (text, text)),
        pools=(pool(endpoint(name=text, state="ejected", out=1, last_failure=text), name=text),),
        failures=(failed(code=text, route=text, request_id=text, endpoint=text, reason=text), failed(code="", reason=None, source=text)),
        workers=(worker(), worker(1, told=None)),
        traffic=traffic(results=(ResultCount(text, text, text, "failed", 1),)),
        in_force=in_force(
            keys=(KeyShown("signing", text, text, 2048, text, None),),
            certificates=(CertificateShown(text, text, NOW - 1),),
            limits=(LimitShown(text, text, text),),
            routes=(RouteShown(text, text, (text,), (text,), text, True),),
        ),
    )
    return structs.replace(found, concerns=(*found.concerns, Concern("warn", "keys", text)))


def shape(element: Element) -> Any:
    """Elements and the names of their attributes."""
    return element.name, sorted(element.attributes), [shape(child) for child in element.children if isinstance(child, Element)]


def test_hostile_values_change_nothing_but_texts() -> None:
    hostile, harmless = read(page(full(HOSTILE))), read(page(full("harmless")))
    assert shape(hostile) == shape(harmless)
    assert [one.attributes for one in hostile.all("script")] == [{"src": "status.js", "defer": None}]
    assert hostile.all("img") == []
    assert hostile.text.count("alert(1)") == harmless.text.count("harmless")


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    text = page(full("x"))
    for element in read(text).all():
        assert not {name for name in element.attributes if name.startswith("on") or name == "style"}
        for name in ("src", "href", "action", "srcset"):
            assert re.match(r"(?:#|[a-z.]+$|data:image/svg)", element.attributes.get(name) or "#")
    assert read(text).all("style") == []
    assert "http" not in re.sub(r"http-equiv|%3A//|http%3A", "", text).replace("HTTP", "")
    assert not re.search(rb"@import|url\(|https?:", asset("status.css") + asset("status.js"))


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour written as #rrggbb or #rgb (WCAG 2)."""
    digits = colour[1:] if len(colour) > 4 else "".join(digit * 2 for digit in colour[1:])
    parts = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_what_is_drawn_stands_out_from_its_ground(theme: int) -> None:
    """By at least 3 to 1 (WCAG 2, 1.4.11). Browsers tell how texts stand out: tests/e2e."""
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", re.findall(r":root \{(.*?)\}", asset("status.css").decode(), re.DOTALL)[theme]))
    grounds = {"card": ("ok", "refused", "failed", "p50", "p99"), "warn-card": ("refused",), "bad-card": ("refused", "failed")}
    for ground, drawn in grounds.items():
        for name in drawn:
            dark, light = sorted((luminance(colours[ground]), luminance(colours[f"bar-{name}"])))
            assert (light + 0.05) / (dark + 0.05) >= 3, f"{name} on {ground}"


@pytest.mark.parametrize("section", get_args(Section))
def test_every_section_that_a_concern_leads_to_is_there_once(section: str) -> None:
    assert [one.name for one in read(page(full("x"))).all() if one.attributes.get("id") == section] == ["section"]


def test_ids_are_unique_and_references_lead_somewhere() -> None:
    elements = read(page(full("x"))).all()
    ids = [one.attributes["id"] for one in elements if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    assert {one.attributes["aria-labelledby"] for one in elements if "aria-labelledby" in one.attributes} <= set(ids)


def test_without_a_script_the_page_loads_itself_again() -> None:
    [fallback] = read(page(status())).all("noscript")
    assert [one.attributes for one in fallback.all("meta")] == [{"http-equiv": "refresh", "content": "5"}]


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        ({}, "All is well"),
        ({"reload": ReloadShown(NOW, False, NOW)}, "Needs attention"),
        ({"pools": (pool(is_down=True),)}, "Failing"),
        ({"ready": False, "reasons": ("starting",)}, "Not ready"),
    ],
)
def test_the_headline_and_the_title_say_the_state(changes: dict[str, Any], headline: str) -> None:
    document = read(page(status(**changes)))
    [live] = [one for one in document.all() if one.attributes.get("aria-live")]
    assert (live.attributes["aria-live"], live.text[1:]) == ("polite", headline)
    assert headline in document.all("title")[0].text


def test_what_is_live_does_not_hold_what_changes_all_the_time() -> None:
    said = {one.text for at in (NOW, NOW + 61) for one in read(page(status(at=at))).all() if one.attributes.get("aria-live")}
    assert len(said) == 1


def test_the_page_says_what_the_json_says() -> None:
    shown = read(page(full("x"))).text
    told = msgspec.json.decode(msgspec.json.encode(status(failures=(failed(),))))
    text = read(page(status(failures=(failed(),)))).text
    for fact in (
        told["workers"][1]["pid"],
        told["pools"][0]["endpoints"][0]["name"],
        told["failures"][0]["request_id"],
        told["failures"][0]["code"],
        told["in_force"]["keys"][0]["fingerprint"],
        told["in_force"]["certificates"][0]["key"],
        told["in_force"]["limits"][0]["key"],
        told["in_force"]["routes"][0]["prefix"],
        told["traffic"]["results"][0]["result_code"],
    ):
        assert str(fact) in text
    assert "serves" in shown


def test_workers_and_peers_are_told_in_words() -> None:
    text = read(
        page(status(workers=(worker(0), worker(1, serves=False, generation=2, told=Load(1, 2, 0, 3)), worker(2, serves=False))))
    ).text
    assert ("serves" in text, "drains" in text, "starts" in text) == (True, True, True)
    ejected = endpoint(state="ejected", out=1, ejected_for=12.4, backup=True, weight=2)
    text = read(page(status(pools=(pool(ejected, waiting=2),)))).text
    assert "ejected in 1 of 2 workers, 12 s more" in text
    assert "backup, weight 2" in text
    assert "2 waiting for a place" in text


def test_the_package_holds_what_the_page_names(tmp_path: Path) -> None:
    [wheel] = WheelBuilder(str(Path(__file__).parents[2])).build(directory=str(tmp_path), versions=["standard"])
    names = ZipFile(wheel).namelist()
    assert {"gateway/admin/assets/status.css", "gateway/admin/assets/status.js"} <= set(names)
