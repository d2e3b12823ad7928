"""The effective configuration as YAML."""

import pytest
import yaml

from gateway.config.written import to_yaml
from tests.config.files import Files

FULL = {
    "server__listen": '[127.0.0.1:1, "[::1]:2", "unix:/run/$${a", fd:web]',
    "server__unix_mode": '"0600"',
    "session__forward": None,
    "session__introspection": "{url: 'https://a/x?y=$${z', client_id: '007', client_secret: hunter2, timeout: 1500ms}",
    "alipayplus__scenes": "{A b: {host: https://a}}",
    "alipayplus__signing__private_keys": '{"1": {file: a.pem, password: hunter2}, "yes": b.pem}',
    "alipayplus__tls": "{ca: ca.pem, server_name: x}",
    "alipayplus__proxy": "http://a:1",
    "alipayplus__max_response": "1536KiB",
    "telemetry__log__customer_hash_key": "hunter2",
}


def test_secrets_are_masked(files: Files) -> None:
    text = to_yaml(
        files.load(files.text(**{**FULL, "session__introspection": "{url: https://a, client_id: g, client_secret: hunter2}"})).config
    )
    assert "hunter2" not in text
    assert text.count("***") == 3


def test_values_are_written_as_in_the_file(files: Files) -> None:
    changes = FULL | {"session__introspection": "{url: https://a, client_id: '007', client_secret: s, timeout: 1500ms}"}
    written = yaml.safe_load(to_yaml(files.load(files.text(**changes)).config))
    assert written["server"]["listen"] == ["127.0.0.1:1", "[::1]:2", "unix:/run/$${a", "fd:web"]
    assert written["session"]["introspection"]["timeout"] == "1500ms"
    assert written["session"]["introspection"]["client_id"] == "007"
    assert written["alipayplus"]["max_response"] == "1536KiB"
    assert written["alipayplus"]["keepalive"] == {"idle": "20s", "age": "10m"}
    assert written["alipayplus"]["signing"]["private_keys"]["yes"] == {"file": str(files.folder / "b.pem")}
    assert "forward" not in written["session"]


def test_what_is_written_loads_as_the_same_configuration(files: Files) -> None:
    changes = FULL | {
        "session__introspection": "{url: https://a, client_id: '$${x', client_secret: s, customer_id: {json: '/$${a}/b'}}",
    }
    once = to_yaml(files.load(files.text(**changes)).config)
    assert to_yaml(files.load(once).config) == once
    plain = files.load(files.text(alipayplus__client_id="$${x")).config
    assert files.load(to_yaml(plain)).config == plain


@pytest.mark.parametrize("share", ["0", "0.000001", "0.00005", "0.000099", "0.0001", "0.3", "1"])
def test_a_share_however_small_is_written_as_it_is_read(files: Files, share: str) -> None:
    text = files.text(telemetry__log__sample=share)
    config = files.load(text).config
    assert files.load(to_yaml(config)).config == config
