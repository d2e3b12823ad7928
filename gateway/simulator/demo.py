"""`gateway demo`: a gateway and its simulated peers, the specification's sample through them, each step shown; then it serves.

The gateway is a child process, started just as a user starts it. All files lie in a temporary folder that is removed at the end.
"""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, Final

import aiohttp
import msgspec

from gateway.config.values import Address
from gateway.simulator import child, walkthrough
from gateway.simulator.answers import sample
from gateway.simulator.configuration import Ports
from gateway.simulator.peers import CannotListen, listen
from gateway.simulator.simulator import HOST, Simulator, temporary_folder
from gateway.simulator.walkthrough import AppAnswer, Passage

Work = Coroutine[Any, Any, int]

TOKEN: Final = "demo-token-alice"  # noqa: S105  a made-up login of the simulator's
PATH: Final = "/alipayplus/v1/sdkProxy"
ANSWER_WITHIN: Final = 20.0
"""Seconds; longer than the gateway's own limits."""

_BOLD: Final = "\x1b[1m{}\x1b[0m"


class DemoFailed(Exception):
    """The demo did not come to its end; the text says why."""


async def run(ports: Ports, *, once: bool) -> int:
    """Show the sample's passage, then serve until cancelled (with `once`: end). Returns 0, or 1 where the sample did not come through.

    Raises DemoFailed, CannotListen and CannotWrite.
    """
    check_free(ports)
    with temporary_folder("gateway-demo-") as directory:
        async with (
            Simulator(directory, ports=ports) as simulator,
            child.gateway(simulator.write_configuration(), _say_error) as running,
        ):
            return await _show_all(simulator, running, once=once)


async def _show_all(simulator: Simulator, running: child.Child, *, once: bool) -> int:
    if not await running.until_ready(f"http://{HOST}:{simulator.ports.admin}/readyz"):
        raise DemoFailed("the gateway did not start")
    try:
        passage = await _send_sample(simulator, running)
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
        raise DemoFailed(f"the sample could not be sent: {type(error).__name__}") from error
    _show(passage)
    if once or not passage.is_faithful:
        return 0 if passage.is_faithful else 1
    _say(*_by_hand(simulator))
    await _follow(running)
    raise DemoFailed("the gateway has ended by itself")


def check_free(ports: Ports) -> None:
    """Raise DemoFailed when any of the ports can't be listened on, and name those."""
    taken = []
    for port in (ports.gateway, ports.admin, ports.alipayplus, ports.auth, ports.mpp):
        try:
            listen(Address(HOST, port)).close()
        except CannotListen as error:
            taken.append(str(error))
    if taken:
        raise DemoFailed("\n".join((*taken, "--port-base N takes the ports from N to N+4 instead")))


async def _send_sample(simulator: Simulator, running: child.Child) -> Passage:
    url = f"http://{HOST}:{simulator.ports.gateway}{PATH}"
    _say(_title(f"The specification's sample request, as an app sends it: POST {url}"), "")
    body = sample("app-request")
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN)
    async with (
        aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as client,
        client.post(url, data=body, headers=headers) as response,
    ):
        status, answer = response.status, await response.read()
    if not simulator.alipayplus.received:
        raise DemoFailed(f"nothing came to Alipay+; the gateway answered {status}: {answer.decode(errors='replace')}")
    request_id = msgspec.json.decode(answer, type=AppAnswer).request_id
    return Passage(body, status, answer, simulator.alipayplus.received[-1], await _access_line(running, request_id))


async def _access_line(running: child.Child, request_id: str) -> dict[str, Any]:
    async with asyncio.timeout(ANSWER_WITHIN):
        while (line := await running.lines.get()).get("request_id") != request_id:
            pass
    return line


async def _follow(running: child.Child) -> None:
    """Show each further request in a line, until the gateway ends."""
    ended = asyncio.create_task(running.ended.wait())
    try:
        while not ended.done():
            line = asyncio.create_task(running.lines.get())
            await asyncio.wait((line, ended), return_when=asyncio.FIRST_COMPLETED)
            if line.done():
                _say(walkthrough.brief(line.result()))
            line.cancel()
    finally:
        ended.cancel()


def _show(passage: Passage) -> None:
    _say(*walkthrough.lines(passage, TOKEN), "")
    if not passage.is_faithful:
        _say_error(f"the sample did not come through; the gateway answered: {passage.answer.decode(errors='replace')}")


def _by_hand(simulator: Simulator) -> tuple[str, ...]:
    ports = simulator.ports
    alipayplus = f"https://{HOST}:{ports.alipayplus}/_simulator"
    return (
        _title("Try it by hand"),
        f"  curl -i http://{HOST}:{ports.gateway}{PATH} -H 'Authorization: Bearer {TOKEN}' -H 'Content-Type: application/json' \\",
        '       -d \'{"proxyRequestHeader": "any", "proxyRequestData": "text"}\'',
        "  The next answer of Alipay+ a failure, or unsigned, or late (gateway simulate --help says all):",
        f'  curl --cacert {simulator.ca} {alipayplus}/script -d \'{{"code": "PROCESS_FAIL"}}\'',
        f"  What Alipay+ got: curl --cacert {simulator.ca} {alipayplus}/received",
        _title("Admin"),
        f"  http://{HOST}:{ports.admin}/ (status page)   /status.json   /metrics   /readyz",
        "",
        "Ctrl-C ends it.",
    )


def _title(text: str) -> str:
    return _BOLD.format(text) if sys.stdout.isatty() else text


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join((*lines, "")))
    sys.stdout.flush()


def _say_error(line: str) -> None:
    sys.stderr.write(f"{line}\n")
