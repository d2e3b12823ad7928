"""What all tests share: a skipped test is a failure in CI, where every tool that a test needs is installed."""

import gc
import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from gateway.simulator.keys import Keys
from gateway.upstream.addresses import NAMES
from tests.upstream.certificates import Authority, Pair

os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost,::1"  # no proxy of the machine's reaches what the tests start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def no_names() -> None:
    """Know nothing of what another test has found for a name."""
    NAMES._found.clear()


@pytest.fixture(scope="session")
def keys() -> Keys:
    """The keys of a gateway and of a simulated Alipay+; making them takes some tenths of a second."""
    return Keys.generate()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="session")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "other")


@pytest.fixture(scope="session")
def server_pair(authority: Authority) -> Pair:
    return authority.issue("localhost", "localhost", "127.0.0.1")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let Ctrl-C reach the programs that are started, also where the tests run in the background of a shell that lets jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def garbage() -> Iterator[list[Any]]:
    """What the garbage collector finds from now on, when the test has it look."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()
