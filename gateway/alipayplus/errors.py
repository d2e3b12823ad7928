"""The ways in which a call to Alipay+ fails on our side: leaves of `GatewayError`, named as in the table (architecture).

What Alipay+ itself answers, F and U too, is a value and no error: see `gateway.alipayplus.results`.
"""

from gateway.errors import GatewayError


class Overloaded(GatewayError):
    """No place among `max_in_flight` came free in time. Nothing was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__("OVERLOADED", reason)


class Unreachable(GatewayError):
    """No connection could be made. Nothing was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__("ALIPAYPLUS_UNREACHABLE", reason)


class TimedOut(GatewayError):
    """The request was sent and no whole answer came in time: the outcome is unknown."""

    def __init__(self, reason: str) -> None:
        super().__init__("ALIPAYPLUS_TIMEOUT", reason)


class ConnectionLost(GatewayError):
    """The connection ended after bytes of the request may have gone out: the outcome is unknown."""

    def __init__(self, reason: str) -> None:
        super().__init__("ALIPAYPLUS_CONNECTION_LOST", reason)


class ResponseInvalid(GatewayError):
    """The answer is not what the specification says: not JSON, no result, a contradictory result (protocol section 2)."""

    def __init__(self, reason: str) -> None:
        super().__init__("ALIPAYPLUS_RESPONSE_INVALID", reason)


class SignatureInvalid(GatewayError):
    """The answer can't be shown to come from Alipay+ (protocol section 3). Its content is not to be used."""

    def __init__(self, reason: str) -> None:
        super().__init__("ALIPAYPLUS_SIGNATURE_INVALID", reason)
