"""What operators see: metrics, logs, trace context. Every metric is declared in `metrics`; every log line passes `log`."""
