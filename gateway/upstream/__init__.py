"""Calls to other servers: endpoints, a lean HTTP/1.1 connection, pools of kept ones, clusters of endpoints, limits.

Used by session, alipayplus and passthrough; what a call means is theirs.
"""

from gateway.upstream.cluster import Cluster, ClusterStatus, Full, Lease, NoneAvailable, Observer, Outcome, State
from gateway.upstream.connection import Connection, Done, resolve
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.errors import AnswerInvalid, AnswerLate, ConnectionLost, Unreachable, UpstreamError
from gateway.upstream.limiter import Limiter
from gateway.upstream.message import LAST_CHUNK, Answer, Field, Head, chunk, request_head
from gateway.upstream.pool import Pool

__all__ = [
    "LAST_CHUNK",
    "Answer",
    "AnswerInvalid",
    "AnswerLate",
    "Cluster",
    "ClusterStatus",
    "Connection",
    "ConnectionLost",
    "Done",
    "Endpoint",
    "Field",
    "Full",
    "Head",
    "Lease",
    "Limiter",
    "NoneAvailable",
    "Observer",
    "Outcome",
    "Pool",
    "State",
    "Unreachable",
    "UpstreamError",
    "chunk",
    "request_head",
    "resolve",
]
