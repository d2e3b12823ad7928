"""The two messages of the call, and the strict JSON decoding beneath them (architecture, decision 1).

The SDK's two strings are spliced: their JSON text, quotes included, goes byte for byte from one body into the other and is never
decoded. Whether an answer may be used at all is decided in `gateway.alipayplus.verification`.
"""

from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Raw

from gateway.alipayplus.errors import ResponseInvalid
from gateway.alipayplus.results import Result
from gateway.errors import ResultStatus

T = TypeVar("T")

ABSENT: Final = Raw(b"")
"""The default of a Raw field: what its value is when the field is not there. (`Raw | None` would take nothing but null.)"""


class NotStrictJson(ValueError):
    """A body is not UTF-8, not JSON or not of the asked shape. The text is fixed: nothing of the body is in it."""


class Response(msgspec.Struct, frozen=True, gc=False):
    """An answer of Alipay+. `header` and `data` are the raw JSON text of the two strings, quotes included; None where absent."""

    result: Result
    header: bytes | None = None
    data: bytes | None = None

    def __repr__(self) -> str:
        """Leave the two strings out: they may hold secrets."""
        return f"Response({self.result!r})"


def decode_strict(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a whole body: strict UTF-8 without a BOM, strict JSON, no lone surrogates, and the decoder's shape.

    Raises NotStrictJson. A Raw value within holds well-formed JSON of any type: see `is_json_string`.
    """
    try:
        # The decoder does not check Raw and unknown members for UTF-8; all else of JSON's syntax it does check, there too.
        if not body.isascii():
            str(body, "utf-8")
        return decoder.decode(body)
    except UnicodeDecodeError:
        reason = "not UTF-8"
    except msgspec.ValidationError:
        reason = "not of the right shape"
    except msgspec.DecodeError:
        reason = "not JSON"
    except RecursionError:
        reason = "nested too deeply"
    # Raised out here so that the cause, which holds the body, is not kept with it.
    raise NotStrictJson(reason)


def is_json_string(raw: bytes | Raw) -> bool:
    """Whether a Raw value of a decoded body is a string (and so neither absent, null, nor of another type)."""
    return bytes(raw).startswith(b'"')


def encode_request(header: bytes | Raw, data: bytes | Raw, customer_id: str) -> bytes:
    """Build the body of `sdkProxy` from the raw JSON text of the SDK's two strings (quotes included) and the user's id."""
    identity = msgspec.json.encode(customer_id)
    return b"".join((b'{"sdkRequestHeader":', header, b',"sdkRequestData":', data, b',"customerId":', identity, b"}"))


def decode_response(body: bytes) -> Response:
    """Read the body of an answer. Raises ResponseInvalid. The body's signature is none of this function's business."""
    try:
        answer = decode_strict(body, _ANSWER)
        return Response(_result(answer.result), _string(answer.sdkResponseHeader), _string(answer.sdkResponseData))
    except NotStrictJson as error:
        raise ResponseInvalid(f"the answer is {error}") from None


class _Answer(msgspec.Struct, frozen=True, gc=False):
    result: Raw
    sdkResponseHeader: Raw = ABSENT  # noqa: N815 - the specification's name
    sdkResponseData: Raw = ABSENT  # noqa: N815 - the specification's name


class _Result(msgspec.Struct, frozen=True, gc=False):
    resultCode: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]  # noqa: N815 - the specification's name
    resultStatus: ResultStatus  # noqa: N815 - the specification's name
    resultMessage: str | None = None  # noqa: N815 - the specification's name


_ANSWER: Final = msgspec.json.Decoder(_Answer)
_RESULT: Final = msgspec.json.Decoder(_Result)
_TEXT: Final = msgspec.json.Decoder(str)


def _result(raw: Raw) -> Result:
    """Read `result`: an object, or an object encoded once as a JSON string (protocol section 2)."""
    text = _TEXT.decode(raw).encode() if is_json_string(raw) else bytes(raw)
    decoded = decode_strict(text, _RESULT)
    if decoded.resultCode == "SUCCESS" and decoded.resultStatus != "S":
        raise ResponseInvalid("the result contradicts itself: SUCCESS under another status")
    return Result(decoded.resultCode, decoded.resultStatus, decoded.resultMessage or "")


def _string(raw: Raw) -> bytes | None:
    text = bytes(raw)
    if text.startswith(b'"'):
        return text
    if text in {b"", b"null"}:
        return None
    raise NotStrictJson("not of the right shape")
