"""Both adapters against a live gateway with the simulator behind it."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ResultStatus
from gateway.simulator import Behaviour, Login
from tests.clients.conftest import ANNA, EXPIRED, OpenApp, base_url
from tests.clients.driver import Driver, Response
from tests.sdkproxy.conftest import Gateway, StartGateway

PARALLEL = 50
CORPORA = Path(__file__).parents[3] / "shared" / "corpora"
SAMPLE = Path(__file__).parents[1] / "contract" / "samples" / "app-request.json"


async def test_a_success_gives_the_sdk_the_two_strings_of_alipayplus(gateway: Gateway, open_app: OpenApp) -> None:
    gateway.sim.alipayplus.script(Behaviour(header="the header", data="the data"))
    app = await open_app(base_url(gateway))
    outcome = await app.call("h", "d")
    assert outcome.response == Response(True, None, None, "the header", "the data")
    assert outcome.told == []
    [received] = gateway.sim.alipayplus.received
    assert received.verified
    assert json.loads(received.body) == {"sdkRequestHeader": "h", "sdkRequestData": "d", "customerId": "customer-anna"}
    [line] = gateway.lines()
    assert (line["scene"], line["result_code"], line["sent"]) == ("PROXY_SCENE_PAY", "SUCCESS", "answered")


async def test_a_success_without_strings_is_one(gateway: Gateway, open_app: OpenApp) -> None:
    gateway.sim.alipayplus.script(Behaviour(strings="none"))
    app = await open_app(base_url(gateway))
    assert (await app.call()).response == Response(True, None, None, None, None)


def naughty_strings() -> list[str]:
    """Strings that break whatever parses, trims or re-encodes them."""
    sample = json.loads(SAMPLE.read_bytes())
    own = [
        "",
        " \t\r\n edges \u00a0\ufeff",
        "%5B%7B%22a%22%3A1%7D%5D&x=a+b%2Bc&ts=1620471100",
        '{"a":"\\"\\\\\\/\\u2028","b":[1.0,1e400,-0]}',
        "\\u0041 \\n </script> ' \" / \\",
        "\u2028\u2029\u0085\u0000\u0001\u001f\u007f\u009f\ufffd\uffff",
        "\U0001f4b3\U0001f469\u200d\U0001f4bb\U0010ffff \u00e9 e\u0301 \u202e\u05d0",
        "x" * 100_000,
        sample["proxyRequestHeader"],
        sample["proxyRequestData"],
    ]
    found = CORPORA / "blns" / "blns.json"
    return own + (json.loads(found.read_bytes()) if found.is_file() else [])


def can_be_carried_by_gnustep(text: str) -> bool:
    """GNUstep loses a byte order mark at the start of a string, and its JSON reader trips over surrogate pairs in strings above 62."""
    has_pairs = any(character > "\uffff" for character in text)
    return not text.startswith(("\ufeff", "\ufffe")) and not (has_pairs and len(text.encode("utf-16-be")) > 2 * 62)


async def test_strings_that_must_not_change_arrive_as_they_left_and_come_back_as_they_were(gateway: Gateway, open_app: OpenApp) -> None:
    gateway.sim.alipayplus.script(Behaviour(strings="echo"), times=None)
    app = await open_app(base_url(gateway))
    strings = [text for text in naughty_strings() if app.platform == "android" or can_be_carried_by_gnustep(text)]
    for header, data in zip(strings, reversed(strings), strict=True):
        response = (await app.call(header, data)).response
        assert response is not None
        assert (response.is_success, response.header, response.data) == (True, header, data)
        sent = json.loads(gateway.sim.alipayplus.received[-1].body)
        assert (sent["sdkRequestHeader"], sent["sdkRequestData"]) == (header, data)
    assert gateway.sim.alipayplus.count == len(strings)


@pytest.mark.parametrize(("header", "data"), [("\ud800", "d"), ("h", "a\udc00b"), ("\udc00\ud800", "d")])
async def test_what_is_no_unicode_text_is_not_sent(gateway: Gateway, open_app: OpenApp, header: str, data: str) -> None:
    app = await open_app(base_url(gateway))
    assert await app.fail("NOT_SENT", header=header, data=data) is None
    assert gateway.sim.auth.count == 0


async def test_50_calls_in_parallel_get_each_its_own_answer(gateway: Gateway, open_app: OpenApp) -> None:
    gateway.sim.alipayplus.script(Behaviour(strings="echo"), times=None)
    app = await open_app(base_url(gateway))
    outcomes = await asyncio.gather(*(app.call(f"header {number}", f"data {number}") for number in range(PARALLEL)))
    assert [outcome.response for outcome in outcomes] == [
        Response(True, None, None, f"header {number}", f"data {number}") for number in range(PARALLEL)
    ]
    assert gateway.sim.alipayplus.count == PARALLEL


@pytest.mark.parametrize(
    ("code", "behaviour"),
    [
        ("PROCESS_FAIL", {"code": "PROCESS_FAIL"}),
        ("PROCESS_FAIL", {"code": "PROCESS_FAIL", "strings": "sample"}),
        ("PARAM_ILLEGAL", {"code": "PARAM_ILLEGAL"}),
        ("INVALID_CLIENT", {"code": "INVALID_CLIENT", "signed": False}),
        ("KEY_NOT_FOUND", {"code": "KEY_NOT_FOUND"}),
        ("REQUEST_TRAFFIC_EXCEED_LIMIT", {"code": "REQUEST_TRAFFIC_EXCEED_LIMIT"}),
        ("UNKNOWN_EXCEPTION", {"code": "UNKNOWN_EXCEPTION"}),
        ("ALIPAYPLUS_CONNECTION_LOST", {"drop": "after_reading"}),
        ("ALIPAYPLUS_RESPONSE_INVALID", {"content": "not_json"}),
        ("ALIPAYPLUS_RESPONSE_INVALID", {"http_status": 503}),
        ("ALIPAYPLUS_SIGNATURE_INVALID", {"key": "stranger"}),
        ("ALIPAYPLUS_SIGNATURE_INVALID", {"signed": False}),
    ],
)
async def test_a_failure_of_alipayplus_reaches_listener_and_sdk(
    gateway: Gateway, open_app: OpenApp, code: str, behaviour: dict[str, Any]
) -> None:
    gateway.sim.alipayplus.script(Behaviour(**behaviour))
    app = await open_app(base_url(gateway))
    request_id = await app.fail(code)
    assert gateway.sim.alipayplus.count == 1
    [line] = gateway.lines()
    assert (line["request_id"], line["result_code"]) == (request_id, code)


@pytest.mark.parametrize("status", ["F", "U"])
@pytest.mark.parametrize("code", ["NEW_CODE", "PROCESS_FAIL", "UNKNOWN_EXCEPTION"])
async def test_whether_a_call_may_have_been_executed_is_told_by_the_status_whatever_the_code(
    gateway: Gateway, open_app: OpenApp, code: str, status: ResultStatus
) -> None:
    gateway.sim.alipayplus.script(Behaviour(code=code, status=status))
    assert await (await open_app(base_url(gateway))).fail(code, status)


@pytest.mark.parametrize(
    ("code", "login"),
    [
        ("SESSION_REQUIRED", {"status": 401}),
        ("SESSION_FORBIDDEN", {"status": 403}),
        ("SESSION_UNAVAILABLE", {"status": 500}),
        ("SESSION_UNAVAILABLE", {"drop": "after_reading"}),
    ],
)
async def test_a_login_that_does_not_hold_reaches_listener_and_sdk(
    gateway: Gateway, open_in: OpenApp, driver: Driver, code: str, login: dict[str, Any]
) -> None:
    gateway.sim.auth.script(Login(**login))
    app = await open_in(driver, base_url(gateway))
    [(told, status, _, request_id)] = (await app.call()).told
    assert (told, status) == (code, "F")
    assert gateway.sim.alipayplus.count == 0
    [line] = gateway.lines()
    assert (line["request_id"], line["result_code"]) == (request_id, code)


async def test_alipayplus_out_of_reach_reaches_listener_and_sdk(start_gateway: StartGateway, open_app: OpenApp) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gateway = await start_gateway({"alipayplus": {"host": f"https://127.0.0.1:{closed.getsockname()[1]}"}})
        app = await open_app(base_url(gateway))
        assert await app.fail("ALIPAYPLUS_UNREACHABLE")


async def test_too_many_calls_reach_listener_and_sdk(start_gateway: StartGateway, open_app: OpenApp) -> None:
    gateway = await start_gateway({"alipayplus": {"max_in_flight": 1, "queue_timeout": "50ms"}})
    gateway.sim.alipayplus.script(Behaviour(hold=True))
    app = await open_app(base_url(gateway))
    first = asyncio.create_task(app.call())
    await gateway.sim.alipayplus.until_received(1)
    assert await app.fail("OVERLOADED")
    gateway.sim.alipayplus.release()
    response = (await first).response
    assert response is not None
    assert response.is_success


async def test_a_body_that_is_too_large_reaches_listener_and_sdk(start_gateway: StartGateway, open_app: OpenApp) -> None:
    gateway = await start_gateway({"sdk_proxy": {"max_body": "1KiB"}})
    app = await open_app(base_url(gateway))
    assert await app.fail("REQUEST_TOO_LARGE", data="x" * 1024)
    assert gateway.sim.auth.count == 0


async def test_a_wrong_base_url_reaches_listener_and_sdk(gateway: Gateway, open_app: OpenApp) -> None:
    app = await open_app(f"http://127.0.0.1:{gateway.port}/wrong")
    assert await app.fail("NOT_FOUND")


async def test_headers_that_are_too_large_reach_listener_and_sdk(gateway: Gateway, open_app: OpenApp) -> None:
    app = await open_app(base_url(gateway), logins=["Bearer " + "x" * 17_000])
    assert await app.fail("HEADERS_TOO_LARGE")


async def test_an_answer_that_comes_too_late_for_the_gateway_reaches_listener_and_sdk(
    gateway: Gateway, open_in: OpenApp, android: Driver, ios: Driver
) -> None:
    """Both adapters at once, since the gateway waits for 12 s."""
    gateway.sim.alipayplus.script(Behaviour(hold=True), times=None)
    apps = [await open_in(driver, base_url(gateway)) for driver in (android, ios)]
    assert all(await asyncio.gather(*(app.fail("ALIPAYPLUS_TIMEOUT") for app in apps)))
    assert gateway.sim.alipayplus.count == len(apps)


async def test_an_expired_login_is_renewed_once_and_the_call_sent_once_more(gateway: Gateway, open_app: OpenApp) -> None:
    app = await open_app(base_url(gateway), logins=[EXPIRED, ANNA])
    outcome = await app.call()
    assert outcome.response is not None
    assert outcome.response.is_success
    assert (outcome.told, outcome.renewals) == ([], 1)
    assert (gateway.sim.auth.count, gateway.sim.alipayplus.count) == (2, 1)
    assert (await app.call()).renewals == 1
    assert gateway.sim.auth.count == 3


async def test_a_login_is_renewed_though_its_headers_are_others_for_each_call(gateway: Gateway, open_app: OpenApp) -> None:
    app = await open_app(base_url(gateway), logins=[EXPIRED, ANNA], has_time=True)
    outcome = await app.call()
    assert outcome.response is not None
    assert (outcome.response.is_success, outcome.told, outcome.renewals) == (True, [], 1)


async def test_a_login_that_is_still_refused_after_it_was_renewed_is_not_renewed_again(gateway: Gateway, open_app: OpenApp) -> None:
    app = await open_app(base_url(gateway), logins=[EXPIRED, EXPIRED + " too", ANNA])
    assert await app.fail("SESSION_REQUIRED")
    assert (gateway.sim.auth.count, gateway.sim.alipayplus.count) == (2, 0)
    assert (await app.call()).renewals == 2


async def test_a_login_that_only_the_user_can_renew_is_a_failure_at_once(gateway: Gateway, open_app: OpenApp) -> None:
    app = await open_app(base_url(gateway), logins=[EXPIRED])
    request_id = await app.fail("SESSION_REQUIRED")
    assert gateway.sim.auth.count == 1
    [line] = gateway.lines()
    assert line["request_id"] == request_id


async def test_a_user_who_is_not_logged_in_is_asked_for_a_login_as_after_a_refusal(gateway: Gateway, open_app: OpenApp) -> None:
    app = await open_app(base_url(gateway), logins=["", "", ANNA])
    assert await app.fail("SESSION_REQUIRED")
    assert gateway.sim.auth.count == 0
    outcome = await app.call()
    assert outcome.response is not None
    assert (outcome.response.is_success, outcome.renewals) == (True, 2)


async def test_50_calls_refused_in_parallel_renew_the_login_once(gateway: Gateway, open_app: OpenApp) -> None:
    app = await open_app(base_url(gateway), logins=[EXPIRED, ANNA])
    outcomes = await asyncio.gather(*(app.call() for _ in range(PARALLEL)))
    assert all(outcome.response and outcome.response.is_success for outcome in outcomes)
    assert {outcome.renewals for outcome in outcomes} == {1}
    assert gateway.sim.alipayplus.count == PARALLEL


async def test_50_calls_refused_in_parallel_ask_once_for_a_login_that_only_the_user_can_renew(gateway: Gateway, open_app: OpenApp) -> None:
    app = await open_app(base_url(gateway), logins=[EXPIRED], renew_after=PARALLEL)  # when all have been sent
    outcomes = await asyncio.gather(*(app.call() for _ in range(PARALLEL)))
    assert sorted(code for outcome in outcomes for code, *_ in outcome.told) == ["SESSION_REQUIRED"] * PARALLEL
    assert max(outcome.renewals for outcome in outcomes) == 1
    assert len(gateway.lines()) == PARALLEL


async def test_a_failure_without_a_listener_is_one_too(gateway: Gateway, open_app: OpenApp) -> None:
    gateway.sim.alipayplus.script(Behaviour(code="PROCESS_FAIL"))
    app = await open_app(base_url(gateway), listener=False)
    outcome = await app.call()
    assert outcome.told == []
    assert outcome.response is None or not outcome.response.is_success
