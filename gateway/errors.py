"""The table of failures: every way in which the gateway itself refuses or fails, with its code, result status and HTTP status.

This is the one place that names them (architecture, The app's contract). Those who detect a failure raise `GatewayError`;
the edge renders it. What Alipay+ answers is not a failure of the gateway and stands in `gateway.alipayplus.results`.
"""

from dataclasses import dataclass
from typing import Final, Literal

ResultStatus = Literal["S", "F", "U"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One row of the table. `result_status` is F where surely nothing was executed, U where something may have been."""

    code: str
    result_status: ResultStatus
    http_status: int
    message: str


_ROWS: Final = (
    Failure("REQUEST_MALFORMED", "F", 400, "The request is not what the contract asks for"),
    Failure("SESSION_REQUIRED", "F", 401, "No valid login"),
    Failure("SESSION_FORBIDDEN", "F", 403, "This login may not do this"),
    Failure("NOT_FOUND", "F", 404, "Nothing is served here"),
    Failure("METHOD_NOT_ALLOWED", "F", 405, "This method is not served here"),
    Failure("REQUEST_TIMEOUT", "F", 408, "The request did not arrive in time"),
    Failure("REQUEST_TOO_LARGE", "F", 413, "The request body is too large"),
    Failure("UNSUPPORTED_MEDIA_TYPE", "F", 415, "Send application/json in UTF-8, without a content coding"),
    Failure("HEADERS_TOO_LARGE", "F", 431, "The request headers are too large"),
    Failure("SESSION_UNAVAILABLE", "F", 503, "The login could not be checked"),
    Failure("OVERLOADED", "F", 503, "Too many requests are waiting"),
    Failure("ALIPAYPLUS_UNREACHABLE", "F", 502, "No connection to Alipay+ could be made; nothing was sent"),
    Failure("ALIPAYPLUS_TIMEOUT", "U", 504, "Alipay+ did not answer in time; the outcome is unknown"),
    Failure("ALIPAYPLUS_CONNECTION_LOST", "U", 502, "The connection to Alipay+ was lost; the outcome is unknown"),
    Failure("ALIPAYPLUS_RESPONSE_INVALID", "U", 502, "The answer of Alipay+ could not be read; the outcome is unknown"),
    Failure("ALIPAYPLUS_SIGNATURE_INVALID", "U", 502, "The answer of Alipay+ could not be verified; the outcome is unknown"),
    Failure("UPSTREAM_UNREACHABLE", "F", 502, "No connection to the service could be made; nothing was sent"),
    Failure("UPSTREAM_UNAVAILABLE", "F", 503, "No server of the service can be used"),
    Failure("UPSTREAM_TIMEOUT", "U", 504, "The service did not answer in time; the outcome is unknown"),
    Failure("UPSTREAM_CONNECTION_LOST", "U", 502, "The connection to the service was lost; the outcome is unknown"),
    Failure("UPSTREAM_RESPONSE_INVALID", "U", 502, "The answer of the service could not be read; the outcome is unknown"),
    Failure("INTERNAL_ERROR", "U", 500, "The gateway failed; the outcome is unknown"),
)

FAILURES: Final[dict[str, Failure]] = {failure.code: failure for failure in _ROWS}
OVERLOADED: Final = FAILURES["OVERLOADED"]


class GatewayError(Exception):
    """A failure of the table, on its way to the one place that renders it.

    `reason` is a short fixed text for the log (never a peer's or a client's words); `message` replaces the table's text in the
    answer; `headers` are added to the answer (Allow, WWW-Authenticate).
    """

    def __init__(self, code: str, reason: str, *, message: str | None = None, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"{code}: {reason}")
        self.failure = FAILURES[code]
        self.reason = reason
        self.message = message or self.failure.message
        self.headers = headers
