import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.admin.in_force import InForce, in_force
from gateway.alipayplus.keys import VerificationKey, private_pem
from gateway.config import load
from gateway.simulator import Ports
from gateway.simulator.configuration import render
from gateway.simulator.keys import Keys, write_private

SECRET = "canary7f3a"


def shown(folder: Path, changes: dict[str, Any] | None = None, **options: Any) -> InForce:
    path = folder / "gateway.yaml"
    path.write_text(render(Ports(), {"api": None, **(changes or {})}))
    config = load(path).config
    return in_force(config, config, **{"ends": {}, "holds_back_key": False, **options})


@pytest.fixture
def folder(tmp_path: Path, keys: Keys) -> Path:
    (tmp_path / "keys").mkdir()
    keys.write(tmp_path / "keys")
    return tmp_path


def fingerprint(key: Any) -> str:
    return VerificationKey.of(key.public_key()).fingerprint


def test_keys_are_shown_by_version_fingerprint_and_the_age_of_their_file(folder: Path, keys: Keys) -> None:
    write_private(folder / "keys" / "mpp-2.pem", private_pem(keys.stranger))
    os.utime(folder / "keys" / "mpp-2.pem", (1_700_000_000, 1_700_000_000))
    found = shown(folder, {"alipayplus": {"signing": {"private_keys": {"2": "keys/mpp-2.pem"}}}}).keys
    assert [(key.use, key.version, key.fingerprint, key.bits) for key in found] == [
        ("signing", "1", fingerprint(keys.mpp), 2048),
        ("next", "2", fingerprint(keys.stranger), 2048),
        ("verification", "1", fingerprint(keys.alipayplus), 2048),
    ]
    assert found[1].changed == 1_700_000_000


def test_a_key_that_cannot_be_read_any_more_is_left_out(folder: Path) -> None:
    (folder / "keys" / "mpp-1.pem").unlink()
    assert [key.use for key in shown(folder).keys] == ["verification"]


def test_certificates_are_named_by_their_key(folder: Path) -> None:
    ca = str(folder / "tls" / "ca.pem")
    [certificate] = shown(folder, ends={ca: 5.0}).certificates
    assert (certificate.key, certificate.file, certificate.ends) == ("alipayplus.tls.ca", ca, 5.0)


def test_limits_are_written_as_in_the_file_with_their_meaning(folder: Path) -> None:
    wallet = {"servers": ["http://127.0.0.1:1"], "connections": 7}
    api = {"upstreams": {"wallet": wallet}, "routes": [{"prefix": "/a", "upstream": "wallet"}]}
    found = shown(folder, {"api": api, "alipayplus": {"timeout": "15s"}})
    limits = {limit.key: limit for limit in found.limits}
    assert len(limits) == len(found.limits)
    assert limits["alipayplus.timeout"].value == "15s"
    assert limits["server.limits.header_size"].value == "16KiB"
    assert limits["api.upstreams.wallet.connections"].value == "7"
    assert "session.introspection.timeout" not in limits
    assert all(limit.meaning for limit in found.limits)
    assert [(route.prefix, route.upstream, route.session) for route in found.routes] == [("/a", "wallet", "required")]


def test_nothing_secret_is_in_it(folder: Path) -> None:
    introspection = {"url": "http://127.0.0.1:1/", "client_id": "gateway", "client_secret": SECRET}
    found = shown(
        folder,
        {"session": {"forward": None, "introspection": introspection}, "telemetry": {"log": {"customer_hash_key": SECRET}}},
    )
    told = msgspec.json.encode(found)
    assert SECRET.encode() not in told
    assert b"PRIVATE" not in told
    assert b"session.introspection.timeout" in told
