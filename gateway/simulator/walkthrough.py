"""What `gateway demo` shows of one SDK request: each step with its time, and that the two strings came through byte for byte.

Pure: from what was sent, received and logged to lines of text.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from gateway.alipayplus.signature import ALGORITHM, SignatureError, parse_signature
from gateway.simulator.answers import sample
from gateway.simulator.peer import Received

OK: Final = 200
SHOWN: Final = 24
"""Characters of a signature that are shown."""


class SampleStrings(Struct, frozen=True):
    """The two strings in each of the four messages, as their JSON text; empty where a message does not have them."""

    proxyRequestHeader: Raw = Raw(b"")  # noqa: N815  the contract's name
    proxyRequestData: Raw = Raw(b"")  # noqa: N815  the contract's name
    sdkRequestHeader: Raw = Raw(b"")  # noqa: N815  the specification's name
    sdkRequestData: Raw = Raw(b"")  # noqa: N815  the specification's name
    sdkResponseHeader: Raw = Raw(b"")  # noqa: N815  the specification's name
    sdkResponseData: Raw = Raw(b"")  # noqa: N815  the specification's name
    proxyResponseHeader: Raw = Raw(b"")  # noqa: N815  the contract's name
    proxyResponseData: Raw = Raw(b"")  # noqa: N815  the contract's name


class AppAnswer(Struct, frozen=True, rename="camel"):
    """The result in the gateway's answer to the app."""

    is_success: bool
    result_code: str
    result_status: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Passage:
    """One SDK request on its way through: what the app sent and got, what Alipay+ got, and the gateway's access line."""

    sent: bytes
    status: int
    answer: bytes
    received: Received
    access: Mapping[str, Any]

    @property
    def is_faithful(self) -> bool:
        """Whether it was a success, verified at Alipay+, and all four strings came through byte for byte."""
        return self.status == OK and self.received.verified and all(same for _, _, same in comparisons(self))


def lines(passage: Passage, token: str) -> Iterator[str]:
    """Give the lines for people."""
    phases = passage.access.get("phases", {})
    received = passage.received
    answer = msgspec.json.decode(passage.answer, type=AppAnswer)
    customer = msgspec.json.decode(received.body)["customerId"]
    yield step("session", phases.get("session"), f"the auth service knows {token}: {customer}")
    yield step("sign", phases.get("sign"), f"Client-Id {received.get('client-id')}, Request-Time {received.get('request-time')}")
    yield step("", None, signature(received.get("signature") or ""))
    yield step("Alipay+", phases.get("alipayplus"), f"{'signature verified there' if received.verified else received.reason}")
    yield step("verify", phases.get("verify"), f"Response-Time {passage.access.get('response_time')}, signature of Alipay+ verified")
    yield step("in all", passage.access.get("duration"), f"HTTP {passage.status}, {answer.result_code} ({answer.result_status})")
    yield ""
    for name, size, same in comparisons(passage):
        yield f"  {name:<28}{size:>5} bytes  {'byte for byte the same' if same else 'CHANGED'}"


def step(name: str, seconds: float | None, text: str) -> str:
    """Give one line: a step, its time in milliseconds, and what came of it."""
    time = f"{seconds * 1000:7.1f} ms" if seconds is not None else " " * 10
    return f"  {name:<8} {time}   {text}"


def comparisons(passage: Passage) -> Iterator[tuple[str, int, bool]]:
    """Compare the JSON text of the strings where they left and where they arrived: name, size in bytes, same or not."""
    sent, arrived = _strings(passage.sent), _strings(passage.received.body)
    answered, got = _strings(sample("alipayplus-response")), _strings(passage.answer)
    pairs = (
        ("header to Alipay+", sent.proxyRequestHeader, arrived.sdkRequestHeader),
        ("data to Alipay+", sent.proxyRequestData, arrived.sdkRequestData),
        ("header back to the app", answered.sdkResponseHeader, got.proxyResponseHeader),
        ("data back to the app", answered.sdkResponseData, got.proxyResponseData),
    )
    for name, left, came in pairs:
        yield name, len(bytes(left)), bytes(left) == bytes(came)


def signature(value: str) -> str:
    """Describe a Signature header: algorithm, key version and the first characters."""
    try:
        header = parse_signature(value)
    except SignatureError as error:
        return str(error)
    text = value.partition("signature=")[2]
    return f"{ALGORITHM}, key version {header.key_version}, signature {text[:SHOWN]}... ({len(header.signature)} bytes)"


def brief(access: Mapping[str, Any]) -> str:
    """Describe an access line of any request in one line."""
    phases = ", ".join(f"{name} {seconds * 1000:.1f}" for name, seconds in access.get("phases", {}).items())
    outcome = access.get("result_code") or access.get("reason") or ""
    duration = f"{access.get('duration', 0) * 1000:.1f} ms"
    return f"  {access.get('method')} {access.get('status')} {outcome} {duration}{f' ({phases})' if phases else ''}"


def _strings(body: bytes) -> SampleStrings:
    return msgspec.json.decode(body, type=SampleStrings)
