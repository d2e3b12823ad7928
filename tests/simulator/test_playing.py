"""The peers of a configuration, read out of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.alipayplus.keys import SigningKey, private_pem
from gateway.config import Address, load
from gateway.simulator import Keys
from gateway.simulator.auth import AS_IS
from gateway.simulator.certificates import Authority
from gateway.simulator.configuration import DEFAULT_PORTS, render
from gateway.simulator.delivery import Answer
from gateway.simulator.peers import Setup
from gateway.simulator.playing import CannotPlay, setup_for
from gateway.simulator.wire import Request


@pytest.fixture
def directory(tmp_path: Path, keys: Keys) -> Path:
    for folder in ("keys", "tls"):
        (tmp_path / folder).mkdir()
    keys.write(tmp_path / "keys")
    Authority.generate().write(tmp_path / "tls" / "ca.pem")
    return tmp_path


def played(directory: Path, changes: Mapping[str, Any] | None = None) -> Setup:
    path = directory / "gateway.yaml"
    path.write_text(render(DEFAULT_PORTS, changes))
    return setup_for(load(path).config)


def checked(setup: Setup, target: str) -> Answer:
    return setup.auth(Request("GET", target, (("Authorization", "Bearer demo-token-a"),)), lambda: AS_IS).answer


def test_the_demo_configuration_is_played(directory: Path, keys: Keys) -> None:
    setup = played(directory)
    assert setup.places.alipayplus == (Address("127.0.0.1", 8443),)
    assert (setup.places.auth, setup.places.mpp) == (Address("127.0.0.1", 8081), None)
    assert setup.partner.client_id == setup.signer.client_id == "T_000000000000000001"
    assert setup.partner.keys == {"1": SigningKey.of(keys.mpp, "1").public}
    assert setup.signer.key.private_numbers() == keys.alipayplus.private_numbers()
    assert setup.signer.key_version == "1"
    assert checked(setup, "/session").status == 200


def test_all_hosts_and_all_of_our_keys_are_played(directory: Path, keys: Keys) -> None:
    (directory / "keys" / "next.pem").write_bytes(private_pem(keys.stranger))
    setup = played(
        directory,
        {
            "alipayplus": {
                "host": ["https://127.0.0.1:8443", "https://localhost:8444"],
                "scenes": {"PAY": {"host": "https://localhost"}, "MINI": {"host": "https://127.0.0.1:8443"}},
                "signing": {"private_keys": {"2": "keys/next.pem"}},
            }
        },
    )
    assert setup.places.alipayplus == (Address("127.0.0.1", 8443), Address("localhost", 8444), Address("localhost", 443))
    assert setup.partner.keys.keys() == {"1", "2"}


def test_the_first_key_whose_mate_is_there_signs(directory: Path) -> None:
    (directory / "keys" / "other.pem").write_bytes((directory / "keys" / "alipayplus-1.pem").read_bytes())
    changes = {"alipayplus": {"verification": {"public_keys": {"1": "keys/other.pem", "3": "keys/alipayplus-1.pem"}}}}
    assert played(directory, changes).signer.key_version == "3"


def test_a_key_for_every_version_answers_with_some_version(directory: Path) -> None:
    changes = {"alipayplus": {"verification": {"public_keys": {"1": None, "*": "keys/alipayplus-1.pem"}}}}
    assert played(directory, changes).signer.key_version == "1"


def test_the_customer_id_stands_where_the_configuration_reads_it(directory: Path) -> None:
    changes = {"session": {"forward": {"url": "http://localhost:9999/who/am/i", "customer_id": {"header": None, "json": "/a/b"}}}}
    setup = played(directory, changes)
    assert setup.places.auth == Address("localhost", 9999)
    assert checked(setup, "/who/am/i").body == b'{"a":{"b":"customer-a"}}'
    assert checked(setup, "/introspect").status == 404


def test_introspection_is_played(directory: Path) -> None:
    introspection = {"url": "http://127.0.0.1:8081/token/check", "client_id": "me", "client_secret": "secret"}
    setup = played(directory, {"session": {"forward": None, "introspection": introspection}})
    assert (setup.auth.introspection_path, setup.auth.client_id, setup.auth.client_secret) == ("/token/check", "me", "secret")
    assert "secret" not in repr(setup)
    assert checked(setup, "/session").status == 404


@pytest.mark.parametrize("missing", ["keys/alipayplus-1.private.pem", "tls/ca.private.pem"])
def test_a_missing_private_mate_is_named(directory: Path, missing: str) -> None:
    (directory / missing).unlink()
    with pytest.raises(CannotPlay, match=missing.replace(".", r"\.")):
        played(directory)


@pytest.mark.parametrize("broken", ["keys/alipayplus-1.private.pem", "tls/ca.private.pem", "keys/mpp-1.pem"])
def test_a_broken_file_is_named(directory: Path, broken: str) -> None:
    (directory / broken).write_text("nonsense")
    with pytest.raises(CannotPlay, match="private"):
        played(directory)


def test_a_private_mate_that_cannot_be_looked_for_is_named(directory: Path) -> None:
    name = "k" * 250  # with .private.pem it is longer than names may be
    with pytest.raises(CannotPlay, match=rf"{name}\.private\.pem: file name too long"):
        played(directory, {"alipayplus": {"verification": {"public_keys": {"1": f"keys/{name}.pem"}}}})


def test_without_a_ca_of_its_own_nothing_can_be_played(directory: Path) -> None:
    with pytest.raises(CannotPlay, match=r"alipayplus\.tls\.ca is needed"):
        played(directory, {"alipayplus": {"tls": None}})


def test_an_auth_service_over_tls_can_not_be_played(directory: Path) -> None:
    with pytest.raises(CannotPlay, match="plain HTTP only"):
        played(directory, {"session": {"forward": {"url": "https://127.0.0.1:8081/session"}}})


def test_the_mpp_api_is_played_at_its_first_plain_server(directory: Path) -> None:
    path = directory / "gateway.yaml"
    path.write_text(render(DEFAULT_PORTS))
    assert setup_for(load(path).config, api=True).places.mpp == Address("127.0.0.1", 8082)
    path.write_text(render(DEFAULT_PORTS, {"api": None}))
    with pytest.raises(CannotPlay, match="http://"):
        setup_for(load(path).config, api=True)
