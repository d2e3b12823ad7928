"""The app developers' README names what an app can meet."""

import re

from gateway.alipayplus.results import DOCUMENTED
from gateway.errors import FAILURES
from tests.clients.build import ADAPTERS

OF_THE_API = "UPSTREAM_"
"""Failures of the MPP's own API, which no SDK request meets."""


def test_it_names_every_code_that_the_listener_can_be_told() -> None:
    table = (ADAPTERS / "README.md").read_text().partition("## What a failure looks like")[2]
    named = set(re.findall(r"`([A-Z_]+)`", table))
    codes = {code for code in FAILURES if not code.startswith(OF_THE_API)} | (DOCUMENTED.keys() - {"SUCCESS"})
    assert codes | {"NOT_SENT", "NO_ANSWER"} <= named
