"""The status page of a running gateway in a real browser."""

import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Locator, Page, expect

from gateway.alipayplus.keys import VerificationKey, private_pem
from gateway.simulator import Behaviour, Simulator
from gateway.simulator.keys import write_private
from gateway.simulator.mpp import Mpp
from tests.e2e.browsing import WITHIN, Chromium, audit, chromium, needs_chromium, outlines
from tests.e2e.conftest import Process
from tests.e2e.watching import until_said_times
from tests.ports import free_port

pytestmark = needs_chromium

LOGIN = {"Authorization": "Bearer demo-token-anna"}
BODY = {"scene": "PROXY_SCENE_PAY", "proxyRequestHeader": "a", "proxyRequestData": "b"}
MOVING = re.compile(r"\d+ (?:s|min|h|d)\b(?: \d+ (?:s|min|h)\b)?|\d\d:\d\d:\d\d|[\d.]+/s")


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    async with chromium(tmp_path) as running:
        yield running


def with_api(sim: Simulator, *more: str, **changes: Any) -> dict[str, Any]:
    """A configuration with one API; its upstream has the simulated server, and more."""
    servers = [f"http://127.0.0.1:{sim.ports.mpp}", *more]
    wallet = {"servers": servers, "health_check": {"path": "/healthz", "interval": "200ms", "unhealthy": 1}}
    return {"api": {"upstreams": {"wallet": wallet}, "routes": [{"prefix": "/api", "upstream": "wallet"}]}, **changes}


async def call(gateway: Process, times: int = 1) -> list[str]:
    """Send SDK calls; return the ids of the requests."""
    url = f"http://127.0.0.1:{gateway.port}/alipayplus/v1/sdkProxy"
    async with httpx.AsyncClient(timeout=20) as http:
        answers = [await http.post(url, json=BODY, headers=LOGIN) for _ in range(times)]
    return [answer.json()["requestId"] for answer in answers]


async def ask(gateway: Process, path: str) -> int:
    async with httpx.AsyncClient(timeout=20) as http:
        return (await http.get(f"http://127.0.0.1:{gateway.port}{path}", headers=LOGIN)).status_code


def chart(page: Page, beginning: str) -> Locator:
    return page.locator(f'svg[aria-label^="{beginning}"]')


async def has_words(found: Locator, text: str) -> None:
    await expect(found).to_have_attribute("aria-label", re.compile(re.escape(text)), timeout=WITHIN)


async def has(page: Page, selector: str, text: str) -> None:
    await expect(page.locator(selector)).to_contain_text(text, timeout=WITHIN)


async def reload(gateway: Process, event: str) -> None:
    gateway.process.send_signal(signal.SIGHUP)
    await until_said_times(gateway, event, 1)


async def test_it_follows_the_traffic_by_itself(start: Any, browser: Chromium) -> None:
    sim = await start.simulator()
    gateway = await start(sim, with_api(sim, server={"workers": 2}))
    page = await browser.open(gateway.admin)
    await has(page, "#headline", "All is well")
    await has(page, ".facts", "2 of 2 workers serve · generation 1")
    await page.evaluate("document.body.dataset.marked = 'it is the same document'")
    await page.locator("summary", has_text="SDK calls in numbers").click()
    await page.locator("nav a").first.focus()
    await call(gateway, 12)
    await has_words(chart(page, "SDK calls of the last 10 minutes: 12 ok"), "0 refused, 0 failed")
    sim.alipayplus.script(Behaviour(code="PROCESS_FAIL"), Behaviour(code="PROCESS_FAIL"), Behaviour(tampered=True))
    ids = await call(gateway, 4)
    assert [await ask(gateway, path) for path in ("/api/balance", "/nowhere")] == [200, 404]
    await has_words(chart(page, "SDK calls of the last 10 minutes: 13 ok"), "2 refused, 1 failed")
    await has_words(chart(page, "API requests of the last 10 minutes: 1 ok"), "1 refused, 0 failed")
    await has_words(chart(page, "SDK calls of the last 10 minutes: half took"), "ms")
    for request_id in ids[:3]:
        await has(page, "#failures", request_id)
    await expect(page.locator("#failures")).not_to_contain_text(ids[3])
    await has(page, "#failures", "ALIPAYPLUS_SIGNATURE_INVALID")
    await has(page, ".concerns", "of the SDK calls of the last minute failed, mostly ALIPAYPLUS_SIGNATURE_INVALID")
    assert await page.evaluate("document.body.dataset.marked") == "it is the same document"
    assert await page.evaluate("document.activeElement.textContent") == "Metrics"
    assert await page.locator("details[open]").count() == 1
    assert browser.complaints == []
    places = {url.removeprefix(f"http://127.0.0.1:{gateway.admin}/") for url in browser.asked if not url.startswith("data:")}
    assert places == {"", "status.css", "status.js"}


async def test_it_shows_a_failing_upstream_and_when_it_is_back(start: Any, browser: Chromium) -> None:
    sim = await start.simulator()
    dead = f"127.0.0.1:{free_port()}"
    gateway = await start(sim, with_api(sim, f"http://{dead}"))
    page = await browser.open(gateway.admin)
    await has(page, ".concerns", f"wallet: {dead} is unhealthy")
    await has(page, "#headline", "Needs attention")
    await expect(page).to_have_title(re.compile("Needs attention"))
    row = page.locator("#pools tr", has_text=dead)
    await expect(row).to_contain_text("health check: connection refused")
    sim.alipayplus.script(*[Behaviour(drop="in_body")] * 3)
    await call(gateway, 3)
    await has(page, "#headline", "Failing")
    await has(page, ".concerns .bad >> nth=0", "100 % of the SDK calls of the last minute failed, mostly ALIPAYPLUS_CONNECTION_LOST")
    await expect(page.locator("#pools tr", has_text=f"127.0.0.1:{sim.ports.alipayplus}")).to_contain_text("failing")
    await sim.mpp.close()
    await has(page, ".concerns", "wallet: no endpoint is left")
    other = Mpp()
    await other.start(socket.create_server(("127.0.0.1", int(dead.rpartition(":")[2]))))
    try:
        await has(page, ".concerns", f"wallet: 127.0.0.1:{sim.ports.mpp} is unhealthy")
        await expect(row).to_contain_text("in use", timeout=WITHIN)
    finally:
        await other.close()
    assert browser.complaints == []


async def test_it_shows_a_failed_reload_with_its_faults_until_one_succeeds(start: Any, browser: Chromium) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    page = await browser.open(gateway.admin)
    await has(page, "#reload", "Last reloadok")
    sim.alipayplus.script(Behaviour(code="PROCESS_FAIL"))
    [request_id] = await call(gateway)
    good = gateway.config.read_text()
    gateway.config.write_text(good.replace("client_id:", "clint_id:"))
    await reload(gateway, "the configuration could not be reloaded; the former one stays in use")
    await has(page, ".concerns", "The last reload failed; the former configuration stays in use")
    await has(page, "#reload .lines.bad", "alipayplus.clint_id: unknown key: did you mean client_id?")
    gateway.config.write_text(good)
    await reload(gateway, "reloaded")
    await has(page, "#headline", "All is well")
    await has(page, ".facts", "1 of 1 workers serve · generation 2")
    await expect(page.locator("#reload .lines")).to_have_count(0)
    await has(page, "#failures", request_id)  # of a worker that has ended
    assert browser.complaints == []


async def test_it_shows_that_the_file_of_the_signing_key_holds_another_key(start: Any, browser: Chromium) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    page = await browser.open(gateway.admin)
    file = gateway.config.parent / "keys" / "mpp-1.pem"
    await has(page, "#keys", VerificationKey.of(sim.keys.mpp.public_key()).fingerprint)
    good = file.read_bytes()
    write_private(file, private_pem(sim.keys.stranger))
    await has(page, ".concerns", "The file of the signing key holds another key")
    write_private(file, good)
    await has(page, "#headline", "All is well")


async def test_it_says_so_when_the_gateway_is_gone_and_when_it_is_back(start: Any, browser: Chromium) -> None:
    sim = await start.simulator()
    gateway = await start(sim)
    page = await browser.open(gateway.admin)
    await has(page, "#headline", "All is well")
    assert await gateway.stop() == 0
    await has(page, "#headline", "No contact: what is shown is old")
    await expect(page).to_have_title("✕ No contact")
    await start.serve(gateway.config, sim)
    await has(page, "#headline", "All is well")
    await expect(page).to_have_title(re.compile("All is well"))


async def in_trouble(start: Any) -> Process:
    """A gateway that has something to show in every section."""
    sim = await start.simulator()
    gateway: Process = await start(sim, with_api(sim, f"http://127.0.0.1:{free_port()}"))
    sim.alipayplus.script(Behaviour(code="PROCESS_FAIL"), Behaviour(drop="in_body"))
    await call(gateway, 4)
    await ask(gateway, "/api/balance")
    gateway.config.write_text(gateway.config.read_text().replace("client_id:", "clint_id:"))
    await reload(gateway, "the configuration could not be reloaded; the former one stays in use")
    return gateway


async def test_it_is_accessible_and_fits_in_light_and_dark_on_a_desk_and_on_a_phone(start: Any, browser: Chromium) -> None:
    gateway = await in_trouble(start)
    grounds = set()
    for width in (1280, 360):
        for scheme in ("light", "dark"):
            page = await browser.open(gateway.admin, width=width, scheme=scheme)
            await has(page, ".concerns", "is unhealthy")
            for summary in await page.locator("summary").all():
                await summary.click()
            assert await audit(page) == [], (width, scheme)
            grounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
            focused = await outlines(page)
            assert len(focused) >= 8, focused
            assert set(focused.values()) == {"solid"}
            await page.context.close()
    assert len(grounds) == 2
    assert browser.complaints == []


async def test_without_a_script_it_says_the_same_and_loads_itself_again(start: Any, browser: Chromium) -> None:
    gateway = await in_trouble(start)
    page, plain = await browser.open(gateway.admin), await browser.open(gateway.admin, script=False)
    await has(page, ".concerns", "is unhealthy")
    await has(plain, ".concerns", "is unhealthy")
    texts = [await shown.locator("main").inner_text() for shown in (page, plain)]
    assert MOVING.sub("T", texts[0]) == MOVING.sub("T", texts[1])
    await has_words(chart(plain, "SDK calls of the last 10 minutes: 2 ok"), "1 refused, 1 failed")
    await call(gateway)
    await has_words(chart(plain, "SDK calls of the last 10 minutes: 3 ok"), "1 refused, 1 failed")
    assert browser.complaints == []
