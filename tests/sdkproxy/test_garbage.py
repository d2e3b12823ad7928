"""Calls that fail leave nothing behind that only the garbage collector would find: it seldom looks, and their bodies may be large."""

import gc
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.simulator import Behaviour
from gateway.upstream import Connection, UpstreamError


def found(garbage: list[Any]) -> set[type]:
    """Return what of calls the collector finds."""
    gc.collect()
    return {type(one) for one in garbage if isinstance(one, (Connection, GatewayError, UpstreamError))}


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"drop": "after_reading"}, id="C3-lost"),
        pytest.param({"drop": "in_body"}, id="C3-lost-within-the-answer"),
        pytest.param({"http_status": 500}, id="C11-status"),
        pytest.param({"tampered": True}, id="C9-tampered"),
    ],
)
async def test_a_call_that_fails_is_let_go(gateway: Any, garbage: list[Any], behaviour: dict[str, Any]) -> None:
    gateway.sim.alipayplus.script(Behaviour(**behaviour))
    assert (await gateway.post()).status == 502
    assert found(garbage) == set()


@pytest.mark.parametrize("login", [pytest.param({"drop": "after_reading"}, id="B3-lost"), pytest.param({"status": 500}, id="B5-status")])
async def test_a_call_without_a_session_is_let_go(gateway: Any, garbage: list[Any], login: dict[str, Any]) -> None:
    gateway.script_auth(**login)
    assert (await gateway.post()).status == 503
    assert found(garbage) == set()
