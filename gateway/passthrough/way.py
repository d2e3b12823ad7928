"""What a route does with its requests, as a value that is ready to be used."""

from msgspec import Struct

from gateway.passthrough.headers import HeaderRules, RequestHeaders
from gateway.passthrough.tunnel import Tunnel
from gateway.upstream import Cluster


class Timeouts(Struct, frozen=True):
    """Seconds: from the request's end to the answer's head; between two reads of the answer (or a tunnel), and of the request body."""

    response: float
    idle: float
    body_idle: float


class Way(Struct, frozen=True, eq=False):
    """What a route does with its requests. `tunnels` holds those that are open."""

    upstream: Cluster
    host_header: str
    request_headers: RequestHeaders
    response_rules: HeaderRules
    max_body: int
    timeouts: Timeouts
    tunnels: set[Tunnel]
