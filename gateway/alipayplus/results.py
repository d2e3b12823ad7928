"""Result codes: what Alipay+ says came of a call (protocol section 2). Values only; reading them from an answer is in `messages`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from gateway.errors import ResultStatus

TRAFFIC_LIMIT: Final = "REQUEST_TRAFFIC_EXCEED_LIMIT"
"""Slow down; and do not assume that the call was not executed."""

DOCUMENTED: Final[Mapping[str, ResultStatus]] = MappingProxyType(
    {
        "SUCCESS": "S",
        "ACCESS_DENIED": "F",
        "INVALID_API": "F",
        "INVALID_CLIENT": "F",
        "INVALID_SIGNATURE": "F",
        "KEY_NOT_FOUND": "F",
        "MEDIA_TYPE_NOT_ACCEPTABLE": "F",
        "METHOD_NOT_SUPPORTED": "F",
        "PARAM_ILLEGAL": "F",
        "PROCESS_FAIL": "F",
        TRAFFIC_LIMIT: "U",
        "UNKNOWN_EXCEPTION": "U",
    }
)
"""The specification's result codes, each with its status."""

UNSIGNED_FAILURES: Final = frozenset(
    {
        "INVALID_CLIENT",
        "KEY_NOT_FOUND",
        "INVALID_SIGNATURE",
        "INVALID_API",
        "METHOD_NOT_SUPPORTED",
        "MEDIA_TYPE_NOT_ACCEPTABLE",
        "ACCESS_DENIED",
    }
)
"""The failures that can come before Alipay+ knows client and key, and so unsigned (protocol section 3)."""


class Result(Struct, frozen=True, gc=False):
    """The outer result of a call. `status` decides: a success whatever the code where it is S."""

    code: str
    status: ResultStatus
    message: str = ""

    @property
    def known(self) -> bool:
        """Whether the code is documented and stands under its own status; any other is judged by its status alone."""
        return DOCUMENTED.get(self.code) == self.status
