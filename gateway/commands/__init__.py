"""The tools for people: keys, signatures by hand, one call as the app makes it. Each module adds its parser to `gateway.cli`'s."""
