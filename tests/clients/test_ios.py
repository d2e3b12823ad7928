"""What concerns the Objective-C adapter only."""

import asyncio
from pathlib import Path

import pytest

from tests.clients import build
from tests.clients.conftest import OpenApp, StartServer
from tests.clients.driver import Driver
from tests.clients.server import http, success

STRICT = ("-Wconversion", "-Wshadow", "-Wimplicit-retain-self", "-Wnullable-to-nonnull-conversion", "-Wstrict-prototypes")


@pytest.fixture(scope="session")
def options() -> tuple[str, ...]:
    try:
        return build.objc_options()
    except build.Missing as missing:
        pytest.skip(str(missing))


def test_it_compiles_with_arc_without_any_warning(options: tuple[str, ...], tmp_path: Path) -> None:
    build.compiled(build.IOS / "GatewayNetworkProxy.m", tmp_path, (*options, *build.ARC, *STRICT))


def test_clangs_analyzer_finds_nothing(options: tuple[str, ...]) -> None:
    checks = ("-analyzer-output=text", "-Xclang", "-analyzer-werror")
    build.run("clang", "--analyze", "-Xanalyzer", *checks, *options, *build.ARC, build.IOS / "GatewayNetworkProxy.m")


@pytest.mark.parametrize("data", ["text", "\ud800"], ids=["answered", "not-sent"])
async def test_an_answer_that_the_sdk_still_handles_holds_up_no_other(
    ios: Driver, open_in: OpenApp, start_server: StartServer, data: str
) -> None:
    """With three, since GNUstep starts a queue's second thread only when two operations wait for one."""
    _, base = await start_server(http(200, success()))
    app = await open_in(ios, base)
    outcomes = await asyncio.gather(*(app.call(data=data, answers=2) for _ in range(3)))
    assert [outcome.response is None for outcome in outcomes] == [data != "text"] * 3


async def test_a_scene_that_it_does_not_know_is_left_out(ios: Driver, open_in: OpenApp, start_server: StartServer) -> None:
    server, base = await start_server(http(200, success()))
    await (await open_in(ios, base)).call(scene="IAPProxySceneNew")
    assert server.requests[0].json == {"proxyRequestHeader": "{}", "proxyRequestData": "x=1"}
