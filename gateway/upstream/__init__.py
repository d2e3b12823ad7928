"""Calls to other servers: endpoints, a lean HTTP/1.1 connection, pools of kept ones, clusters of endpoints, limits.

Used by session, alipayplus and passthrough; what a call means is theirs.
"""

from gateway.upstream.cluster import Cluster, Full, Lease, NoneAvailable, Outcome
from gateway.upstream.connection import Connection, Done, settle
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.errors import AnswerInvalid, AnswerLate, ConnectionLost, Unreachable, UpstreamError
from gateway.upstream.limiter import Limiter
from gateway.upstream.message import Answer, Head, request_head
from gateway.upstream.pool import Pool

__all__ = [
    "Answer",
    "AnswerInvalid",
    "AnswerLate",
    "Cluster",
    "Connection",
    "ConnectionLost",
    "Done",
    "Endpoint",
    "Full",
    "Head",
    "Lease",
    "Limiter",
    "NoneAvailable",
    "Outcome",
    "Pool",
    "Unreachable",
    "UpstreamError",
    "request_head",
    "settle",
]
