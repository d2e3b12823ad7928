"""The ways in which a call to an upstream can fail.

What they mean for the caller's own answer (result F or U, which code) is the caller's matter.
"""


class UpstreamError(Exception):
    """A call to an upstream has failed. `reason` is a short fixed text that may be logged: never a peer's words.

    `endpoint` is the label of the one that was tried last, where the call was one to several.
    """

    endpoint: str | None = None

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unreachable(UpstreamError):
    """No usable connection: not one byte of the request was sent, so it may be sent elsewhere."""


class ConnectionLost(UpstreamError):
    """The connection ended, or the body broke off, before the whole answer was here. The request may have been executed."""


class AnswerLate(UpstreamError):
    """The whole answer was not here in the time that the caller gave. The request may have been executed."""


class AnswerInvalid(UpstreamError):
    """The peer answered something that is not one well-formed HTTP/1.1 answer within the limits (RFC 9112)."""
