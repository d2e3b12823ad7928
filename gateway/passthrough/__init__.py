"""The MPP's own API: what is passed on to its upstreams, and how."""
