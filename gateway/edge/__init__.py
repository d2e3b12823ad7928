"""Where requests come in: the listener and its limits, routing, the one shape of answers, the record of each request."""
