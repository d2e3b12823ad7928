"""Rules on a configuration of which a part could not be read."""

from collections.abc import Callable, Iterator

import pytest

from gateway.config import Fault
from gateway.config.draft import INVALID, Unreadable, readable
from gateway.config.model import Config
from gateway.runtime import CHECKS
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
    assert list(readable(rule(config))) == [Fault(("a",), "found")]


NONE = '"${env:NONE}"'
PRIVATE_KEYS, PUBLIC_KEYS = "alipayplus.signing.private_keys", "alipayplus.verification.public_keys"
SOUND = "{servers: http://127.0.0.1:1}"
IDENTITY = "{set: {X-Customer-Id: x}}"
BACKUP = "{servers: {url: http://127.0.0.1:1, backup: true}}"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (
            {"alipayplus__signing__private_keys": f'{{"0": {NONE}, "1": keys/none.pem}}'},
            [f'{PRIVATE_KEYS}."0"', f'{PRIVATE_KEYS}."1"', f'{PUBLIC_KEYS}."1"'],
        ),
        (
            {"alipayplus__signing__private_keys": f'{{"1": {{file: keys/mpp-1.pem, password: {NONE}}}}}'},
            [f'{PRIVATE_KEYS}."1".password', f'{PRIVATE_KEYS}."1"', f'{PUBLIC_KEYS}."1"'],
        ),
        ({"alipayplus__signing__private_keys": "{1: keys/mpp-1.pem}"}, [PRIVATE_KEYS, f'{PUBLIC_KEYS}."1"']),
        (
            {"alipayplus__verification__public_keys": f'{{"0": {NONE}, "1": keys/none.pem}}'},
            [f'{PRIVATE_KEYS}."1"', f'{PUBLIC_KEYS}."0"', f'{PUBLIC_KEYS}."1"'],
        ),
        (
            {"alipayplus__tls__ca": NONE, "session__forward__tls__ca": "tls/none.pem", "session__forward__url": "https://127.0.0.1/"},
            ["alipayplus.tls.ca", "session.forward.tls.ca"],
        ),
        (
            {"alipayplus__tls__ca": NONE, "alipayplus__tls__certificate": "tls/none.pem", "alipayplus__tls__private_key": "tls/none.pem"},
            ["alipayplus.tls.ca", "alipayplus.tls.certificate", "alipayplus.tls.private_key"],
        ),
        (
            {"server__tls__certificate": "tls/none.pem", "server__tls__private_key": NONE},
            ["server.tls.certificate", "server.tls.private_key"],
        ),
        (
            {
                "api__upstreams": f"{{a: {{servers: [{NONE}, {NONE}]}}, b: {BACKUP}}}",
                "api__routes": "[{prefix: /a, upstream: a}, {prefix: /b, upstream: b}]",
            },
            ["api.upstreams.a.servers[0]", "api.upstreams.a.servers[1]", "api.upstreams.b.servers"],
        ),
        (
            {"api__upstreams__a": SOUND, "api__routes": f"[{{prefix: /a, upstream: {NONE}}}, {{prefix: /b, upstream: b}}]"},
            ["api.routes[0].upstream", "api.routes[1].upstream"],
        ),
        (
            {
                "api__upstreams__a": SOUND,
                "api__routes": f"[{{prefix: /a, upstream: a, host: {NONE}}}, {{prefix: /b, upstream: a, request_headers: {IDENTITY}}}]",
            },
            ["api.routes[0].host", "api.routes[1].request_headers"],
        ),
        (
            {
                "api__upstreams__a": SOUND,
                "api__routes": "[{prefix: /a, upstream: a, methods: [get]}, {prefix: /b, upstream: a}, {prefix: /b, upstream: a}]",
            },
            ["api.routes[0].methods[0]", "api.routes[2].prefix"],
        ),
        (
            {
                "api__upstreams__a": SOUND,
                "api__routes": "[{prefix: /b, upstream: a}, {prefix: /b, upstream: a}]",
                "sdk_proxy__path_prefix": "sdk",
            },
            ["sdk_proxy.path_prefix", "api.routes[1].prefix"],
        ),
        (
            {"api__upstreams__a": SOUND, "api__routes": f"[{{prefix: {NONE}, upstream: a}}, {{prefix: /alipayplus/x, upstream: a}}]"},
            ["api.routes[0].prefix", "api.routes[1].prefix"],
        ),
        (
            {
                "api__upstreams__a": SOUND,
                "api__routes": f"[{{prefix: /a;b, upstream: {NONE}, methods: [CONNECT]}}, {{prefix: /a//b, upstream: a, host: {NONE}}}]",
            },
            ["api.routes[0].prefix", "api.routes[0].upstream", "api.routes[0].methods", "api.routes[1].prefix", "api.routes[1].host"],
        ),
        (
            {
                "api__upstreams__a": SOUND,
                "api__routes": f"[{{prefix: {NONE}, upstream: a, methods: [CONNECT], host: A}}]",
            },
            ["api.routes[0].prefix", "api.routes[0].methods", "api.routes[0].host"],
        ),
        (
            {"server__tls__certificate": NONE, "server__tls__private_key": "tls/none.pem"},
            ["server.tls.certificate", "server.tls.private_key"],
        ),
    ],
)
def test_E1_what_could_not_be_read_hides_no_fault_elsewhere(files: Files, changes: dict[str, str], found: list[str]) -> None:
    faults = [fault.split(": ")[1] for fault in files.faults(files.text(**changes), CHECKS) if "warning" not in fault]
    assert sorted(fault for fault in faults if fault in found) == sorted(found)
