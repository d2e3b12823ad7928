"""The adapters for the app, compiled and driven by programs that play the SDK; a gateway with its simulator; a server that is none."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest

from gateway.simulator.keys import Keys
from tests.clients import build
from tests.clients.driver import App, Driver
from tests.clients.server import Server
from tests.sdkproxy.conftest import Gateway, StartGateway

ANNA = "Bearer demo-token-anna"
EXPIRED = "Bearer expired"

OpenApp = Callable[..., Awaitable[App]]
StartServer = Callable[..., Awaitable[tuple[Server, str]]]


@pytest.fixture(scope="session")
def android(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """The Java adapter in a JDK."""
    yield from running("android", build.android, tmp_path_factory.mktemp("android"))


@pytest.fixture(scope="session")
def ios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """The Objective-C adapter on GNUstep, over a stand-in of NSURLSession."""
    yield from running("ios", build.ios, tmp_path_factory.mktemp("ios"))


def running(platform: Any, compile_driver: Callable[[Path], list[str]], directory: Path) -> Iterator[Driver]:
    """Compile a driver and run it."""
    try:
        command = compile_driver(directory)
    except build.Missing as missing:
        pytest.skip(str(missing))
    driver = Driver(platform, command, directory / "stderr")
    yield driver
    driver.stop()


@pytest.fixture(params=["android", "ios"], ids=["android-on-a-JDK", "ios-on-GNUstep-with-a-stand-in-of-NSURLSession"])
def driver(request: pytest.FixtureRequest) -> Driver:
    """Each of the two adapters."""
    chosen: Driver = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
async def open_in() -> AsyncIterator[OpenApp]:
    """Open adapters in any driver. At the end of the test each must go away, and no call may have been answered twice."""
    names = (f"app{number}" for number in itertools.count())
    opened: list[App] = []

    async def open_app(driver: Driver, base: str, *, logins: Sequence[str | None] = (ANNA,), timeout: int = 20_000, **values: Any) -> App:
        app = App(driver, next(names))
        opened.append(app)
        await driver.ask("open", app.name, base=base, logins=list(logins), timeout=timeout, **{"listener": True, **values})
        return app

    yield open_app
    for app in opened:
        await app.driver.ask("close", app.name)
        assert app.driver.surplus == []


@pytest.fixture
async def open_app(driver: Driver, open_in: OpenApp) -> OpenApp:
    """Open adapters: base URL, the user's logins, one timeout for all (milliseconds), with or without a listener.

    An empty login is none. A login is renewed only when it has been asked for `renew_after` times.
    """

    async def opened(base: str, **values: Any) -> App:
        return await open_in(driver, base, **values)

    return opened


@pytest.fixture
async def start_server() -> AsyncIterator[StartServer]:
    """Start servers that give these answers in turn; None is silence."""
    servers: list[Server] = []

    async def start(*answers: bytes | None, tls: SSLContext | None = None) -> tuple[Server, str]:
        server = Server(list(answers))
        servers.append(server)
        return server, await server.start(tls)

    yield start
    for server in servers:
        await server.stop()


@pytest.fixture
async def start_gateway(tmp_path: Path, keys: Keys) -> AsyncIterator[StartGateway]:
    """Start gateways in front of a simulator, with changes to the demo's configuration."""
    async with AsyncExitStack() as stack:
        yield StartGateway(tmp_path, keys, stack)


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> Gateway:
    return await start_gateway()


def base_url(gateway: Gateway) -> str:
    """Give what an adapter is configured with."""
    return f"http://127.0.0.1:{gateway.port}/alipayplus"
