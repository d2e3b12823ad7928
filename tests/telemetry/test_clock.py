from structlog.testing import CapturingLogger

from gateway.telemetry.clock import AGAIN, LARGE, ClockWatch
from gateway.telemetry.metrics import Metrics


def test_a_large_offset_is_warned_of_once_a_minute_and_every_one_is_shown() -> None:
    metrics, log, time = Metrics(), CapturingLogger(), 1000.0
    watch = ClockWatch(metrics, log, now=lambda: time)
    shown = []
    for offset, passed in ((LARGE, 0.0), (-LARGE - 1, 0.0), (LARGE + 2, AGAIN - 1), (LARGE + 3.04, 1.0), (0.0, AGAIN), (99.0, 0.0)):
        time += passed
        watch.observe(offset)
        shown.append(metrics.registry.get_sample_value("gateway_alipayplus_clock_offset_seconds"))
    assert shown == [LARGE, -LARGE - 1, LARGE + 2, LARGE + 3.04, 0.0, 99.0]
    assert [call.args for call in log.calls] == [("our clock and that of Alipay+ differ",)] * 3
    assert [call.kwargs["offset_seconds"] for call in log.calls] == [-LARGE - 1, LARGE + 3.0, 99.0]
