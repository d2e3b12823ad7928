"""The process: listeners, signals, drain. What runs inside is composed by `gateway.runtime`."""
