"""Rules on a configuration of which a part could not be read."""

from collections.abc import Callable, Iterator

import pytest

from gateway.config import Fault
from gateway.config.draft import INVALID, Unreadable, try_rule
from gateway.config.model import Config
from tests.config.files import Files


@pytest.mark.parametrize(
    "look",
    [
        str,
        repr,
        bool,
        len,
        iter,
        hash,
        float,
        int,
        lambda value: value.attribute,
        lambda value: value == 1,
        lambda value: value < 1,
        lambda value: 1 in value,
        lambda value: value[0],
        lambda value: value + 1,
        lambda value: 1 + value,
        {1: 1}.get,
    ],
)
def test_what_could_not_be_read_cannot_be_looked_at(look: Callable[[object], object]) -> None:
    with pytest.raises(Unreadable):
        look(INVALID)


def test_rules_that_need_no_faulty_key_are_tried_all_the_same(files: Files) -> None:
    changes = {
        "alipayplus__client_id": "1",
        "alipayplus__signing__key_version": '"2"',
        "server__listen": "x",
        "admin__listen": "127.0.0.1:1",
    }
    assert [fault.split(": ")[1] for fault in files.faults(files.text(**changes))] == [
        "alipayplus.signing.key_version",
        "alipayplus.client_id",
        "server.listen",
    ]


def test_a_rule_keeps_what_it_found_before_it_was_stopped(files: Files) -> None:
    def rule(_: Config) -> Iterator[Fault]:
        yield Fault(("a",), "found")
        bool(INVALID)

    config = files.load(files.text()).config
    assert list(try_rule(rule, config)) == [Fault(("a",), "found")]
