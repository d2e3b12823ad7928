"""What a worker tells of itself."""

import socket
from typing import Any

from structlog.testing import CapturingLogger

from gateway.server.control import Totals
from gateway.server.worker import Worker
from gateway.telemetry.metrics import Metrics
from gateway.upstream.addresses import NAMES, Found


class Told:
    """The supervisor's end of a channel."""

    def __init__(self) -> None:
        self.names: list[tuple[Found, ...]] = []

    def send(self, message: Any) -> None:
        assert isinstance(message, Totals)
        self.names.append(message.names)


def test_F7_a_worker_tells_once_what_it_has_found_itself_and_nothing_that_it_was_told() -> None:
    known = Found("peer", 80, ((socket.AF_INET, "192.0.2.1", 0),))
    NAMES.take(known)
    logs: Any = CapturingLogger()
    worker = Worker(Metrics(), logs, [], (known,))
    told: Any = Told()
    worker.channel = told
    worker.report()
    NAMES.note("peer", 80, [(socket.AF_INET, ("192.0.2.2", 80))])
    for _ in range(2):
        worker.report()
    assert told.names == [(), (Found("peer", 80, ((socket.AF_INET, "192.0.2.2", 0),)),), ()]
