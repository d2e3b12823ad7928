"""One endpoint of a cluster: its pool, and what decides whether it gets requests."""

from math import inf

from msgspec import Struct

from gateway.config import model
from gateway.upstream.ejection import Ejection
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.health import Health
from gateway.upstream.pool import Pool


class EndpointStatus(Struct, frozen=True):
    """How one endpoint is, to be shown. `ejected_for` is seconds from now, 0 when it is not out; `last_failure` a fixed text."""

    name: str
    healthy: bool
    ejected_for: float
    in_flight: int
    idle: int
    weight: int
    backup: bool
    last_failure: str | None


class Member:
    """An endpoint and its state. `limit` is how many requests it may have at once (None: any number)."""

    __slots__ = ("backup", "ejection", "endpoint", "health", "in_flight", "last_failure", "limit", "name", "pool", "weight")

    def __init__(
        self,
        pool: Pool,
        *,
        ejection: model.Ejection,
        weight: int = 1,
        backup: bool = False,
        limit: int | None = None,
        health: Health | None = None,
    ) -> None:
        self.pool = pool
        self.endpoint: Endpoint = pool.endpoint
        self.name = pool.name
        self.weight = weight
        self.backup = backup
        self.limit = inf if limit is None else limit
        self.health = health or Health()
        self.ejection = Ejection(ejection)
        self.in_flight = 0
        self.last_failure: str | None = None

    def is_in(self, now: float) -> bool:
        """Tell whether it is healthy and not ejected."""
        return self.health.is_healthy and self.ejection.until <= now

    def is_available(self, now: float) -> bool:
        """Tell whether it can take a request: in, and not full."""
        return self.health.is_healthy and self.ejection.until <= now and self.in_flight < self.limit

    def status(self, now: float) -> EndpointStatus:
        """Return how it is."""
        return EndpointStatus(
            self.name,
            self.health.is_healthy,
            self.ejection.remaining(now),
            self.in_flight,
            self.pool.idle,
            self.weight,
            self.backup,
            self.last_failure,
        )
