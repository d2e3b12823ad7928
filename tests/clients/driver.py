"""A program that plays the SDK: it holds adapters, calls them and says what came back. One command or answer is one line of JSON.

The programs are android/Driver.java and ios/driver.m. Strings travel as the hexadecimal digits of their UTF-16 units, so that no JSON
code but the adapter's own can change them.
"""

import asyncio
import itertools
import json
import subprocess
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gateway.alipayplus.results import DOCUMENTED
from gateway.errors import FAILURES

Platform = Literal["android", "ios"]

SCENES = {
    "android": {"MINIPROGRAM": "PROXY_SCENE_MINIPROGRAM", "PAY": "PROXY_SCENE_PAY"},
    "ios": {"MINIPROGRAM": "IAPProxySceneMiniProgram", "PAY": "IAPProxyScenePay"},
}
OF_THE_API = "UPSTREAM_"
"""Failures of the MPP's own API, which no SDK request meets."""
STATUSES: Final = {
    **{failure.code: failure.result_status for failure in FAILURES.values() if not failure.code.startswith(OF_THE_API)},
    **{code: status for code, status in DOCUMENTED.items() if code != "SUCCESS"},
    "NOT_SENT": "F",
    "NO_ANSWER": "U",
}
"""The status of each failure that a listener can be told of, where Alipay+ does not say another."""
PATIENCE = 30
"""Seconds until a test gives up on an answer of a driver."""


@dataclass(frozen=True)
class Response:
    """What the SDK was given."""

    is_success: bool
    error_code: str | None
    error_message: str | None
    header: str | None
    data: str | None


@dataclass(frozen=True)
class Outcome:
    """What became of one call: the SDK's answer, what the listener was told since the last one, and renewals of the login so far."""

    response: Response | None
    told: list[tuple[str, str, str, str | None]]
    renewals: int
    interrupted: bool


class Driver:
    """The running program. `surplus` are answers that nobody waits for: an SDK's handler that was called twice, say."""

    def __init__(self, platform: Platform, command: list[str], log: Path) -> None:
        self.platform = platform
        self.surplus: list[Any] = []
        self._waiting: dict[int, Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    async def ask(self, op: str, app: str, **values: Any) -> Any:
        """Send a command and wait for its answer."""
        number = next(self._numbers)
        future = self._waiting[number] = Future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "op": op, "app": app, **values}).encode() + b"\n")
        self._process.stdin.flush()
        return await asyncio.wait_for(asyncio.wrap_future(future), PATIENCE)

    def stop(self) -> None:
        """End the program: it ends with its standard input."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self._process.stdout.close()
        assert self._process.returncode == 0, self._log.read_text()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            future = self._waiting.pop(answer["id"], None)
            if future is None:
                self.surplus.append(answer)
            elif future.set_running_or_notify_cancel():  # else the test has given up on it
                future.set_result(answer)
        for future in self._waiting.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(EOFError(self._log.read_text()))


@dataclass(frozen=True)
class App:
    """One adapter in a driver, with its user's logins: the first until it is renewed, then the next."""

    driver: Driver
    name: str

    @property
    def platform(self) -> Platform:
        return self.driver.platform

    async def call(self, header: str = "{}", data: str = "x=1", *, scene: str | None = "PAY", **more: Any) -> Outcome:
        """Have the SDK send one request. A scene is MINIPROGRAM or PAY, else the platform's own word.

        On Android `interrupted` calls it on a thread that is; on iOS the SDK's handler ends when so many `answers` have come.
        """
        spelled = SCENES[self.platform].get(scene, scene) if scene else None
        values = {"header": to_hex(header), "data": to_hex(data), "scene": spelled}
        answer = await self.driver.ask("call", self.name, **values, **more)
        assert answer.get("queued", True)  # the handler of iOS is called on a queue, whatever thread the app renews its login on
        told = [(code, status, message, request_id) for code, status, message, request_id in answer["told"]]
        return Outcome(response_of(answer["response"]), told, answer["renewals"], answer.get("interrupted", False))

    async def fail(self, code: str, status: str | None = None, **values: Any) -> str | None:
        """Send one request that fails with `code`; check what SDK and listener are given; give the request id."""
        outcome = await self.call(**values)
        [(told, said, message, request_id)] = outcome.told
        assert (told, said, bool(message)) == (code, status or STATUSES[code], True)
        if self.platform == "ios" and request_id is not None:
            assert outcome.response == Response(False, code, message, None, None)
        else:
            assert outcome.response is None
        return request_id


def to_hex(text: str) -> str:
    """Write a string as UTF-16 in hexadecimal digits."""
    return text.encode("utf-16-be", "surrogatepass").hex()


def response_of(written: dict[str, Any] | None) -> Response | None:
    """Read what a driver wrote of the SDK's answer."""
    if written is None:
        return None
    header, data = (None if written.get(name) is None else from_hex(written[name]) for name in ("header", "data"))
    return Response(written["isSuccess"], written.get("errorCode"), written.get("errorMessage"), header, data)


def from_hex(digits: str) -> str:
    """Read what `to_hex` or a driver wrote."""
    return bytes.fromhex(digits).decode("utf-16-be", "surrogatepass")
