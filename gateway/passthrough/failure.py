"""What a failure of the upstream is to the client, and what it is to the upstream."""

from typing import Final

from gateway.errors import GatewayError
from gateway.upstream import AnswerInvalid, Full, NoneAvailable, Outcome, Unreachable, UpstreamError

# The first that fits.
_FAILURES: Final[tuple[tuple[type[UpstreamError], str, Outcome], ...]] = (
    (AnswerInvalid, "UPSTREAM_RESPONSE_INVALID", "invalid"),
    (Full, "OVERLOADED", "unreachable"),
    (NoneAvailable, "UPSTREAM_UNAVAILABLE", "unreachable"),
    (Unreachable, "UPSTREAM_UNREACHABLE", "unreachable"),
    (UpstreamError, "UPSTREAM_CONNECTION_LOST", "error"),
)


def failure_of(error: UpstreamError) -> tuple[GatewayError, Outcome]:
    """Return the failure that the client is told, and the outcome that counts for the upstream."""
    code, outcome = next((code, outcome) for kind, code, outcome in _FAILURES if isinstance(error, kind))
    return GatewayError(code, f"upstream: {error.reason}"), outcome
