"""The JSON Schema: current, and of one mind with the loader about single keys."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from gateway.config import ConfigError
from gateway.config.commands import schema_text
from gateway.config.schema import schema
from tests.config.files import Files

CONF = Path(__file__).parents[2] / "conf"
VALIDATOR = Draft202012Validator(schema())


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())


def test_the_kept_file_is_current() -> None:
    assert (CONF / "gateway.schema.json").read_text() == schema_text(), "run: gateway schema > conf/gateway.schema.json"


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.name)
def test_the_files_of_the_project_are_valid(file: Path) -> None:
    VALIDATOR.validate(yaml.safe_load(file.read_text()))


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("server__listen", '["127.0.0.1:1", "[::1]:2"]'),
        ("server__listen", "unix:run/gateway.sock"),
        ("server__listen", "[fd:web, 'unix:${env:HOST}']"),
        ("server__unix_mode", '"0600"'),
        ("server__tls", "{certificate: a, private_key: b}"),
        ("server", ""),
        ("alipayplus__tls", ""),
        ("session__cache__ttl", "0s"),
        ("session__cache__ttl", "${env:TTL}"),
        ("telemetry__log__level", "${env:LEVEL}"),
        ("alipayplus__host", "[https://a, 'https://${env:HOST}']"),
        ("alipayplus__signing__private_keys", '{"1": a.pem, "2": {file: b.pem, password: p}}'),
        ("alipayplus__verification__public_keys", '{"*": a.pem}'),
        ("alipayplus__scenes", "{A: {host: [https://a]}}"),
        ("alipayplus__client_id", "a$${b"),
        ("server__workers", "16"),
        ("server__workers", "auto"),
        ("server__workers", "${env:WORKERS}"),
        ("telemetry__log__sample", "0.5"),
        ("telemetry__log__sample", "${env:SHARE}"),
        ("telemetry__log__sample", "5e-05"),
    ],
)
def test_good_files_are_valid(files: Files, key: str, raw: str) -> None:
    text = files.text(**{key: raw})
    files.load(text, environ={"TTL": "1s", "LEVEL": "info", "HOST": "h", "WORKERS": "4", "SHARE": "0.5"})
    VALIDATOR.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("server__lisen", "127.0.0.1:1"),
        ("api", "{}"),
        ("telemetry__log__sample", "1.1"),
        ("telemetry__log__sample", '"0.5"'),
        ("telemetry__log__sampel", "1.0"),
        ("server__workers", "0"),
        ("server__workers", '"2"'),
        ("server__listen", "8080"),
        ("server__listen", "[]"),
        ("server__listen", "'fd:'"),
        ("server__unix_mode", "0660"),
        ("server__unix_mode", '"rw"'),
        ("server__tls", "{certificate: a}"),
        ("server__limits__connections", "0"),
        ("server__limits__header_size", "16384"),
        ("server__limits__header_size", "16KB"),
        ("session__cache__ttl", "0"),
        ("session__cache__ttl", "1.5s"),
        ("session__cache__ttl", ""),
        ("session__cache__max_entries", "0"),
        ("session__cache__max_entries", '"10"'),
        ("session", None),
        ("session__forward__url", None),
        ("session__forward__url", "ftp://a"),
        ("session__forward__customer_id", ""),
        ("session__forward__customer_id", "{json: sub}"),
        ("session__forward__request_headers", "Cookie"),
        ("alipayplus__connect_timeout", "0s"),
        ("alipayplus__client_id", "1"),
        ("alipayplus__host", "http://a"),
        ("alipayplus__host", "https://a/b"),
        ("alipayplus__proxy", "https://a:1"),
        ("alipayplus__signing__key_version", "1"),
        ("alipayplus__signing__key_version", '"1,2"'),
        ("alipayplus__verification__public_keys", "{}"),
        ("alipayplus__verification__public_keys", '{"1=2": a}'),
        ("alipayplus__verification__allow_unsigned_failures", '"true"'),
        ("alipayplus__scenes", "{A: https://a}"),
        ("alipayplus__tls", "{cert: a}"),
        ("sdk_proxy__path_prefix", "/"),
        ("sdk_proxy__path_prefix", "/a%2f"),
        ("telemetry__log__level", "warn"),
        ("telemetry__log__access", '"yes"'),
        ("telemetry__log__customer_hash_key", '""'),
    ],
)
def test_E1_bad_files_are_invalid_for_schema_and_loader_alike(files: Files, key: str, raw: str | None) -> None:
    text = files.text(**{key: raw})
    with pytest.raises(ConfigError):
        files.load(text)
    assert not VALIDATOR.is_valid(yaml.safe_load(text))


def test_every_key_has_a_description() -> None:
    document = schema()
    keys = [key for section in [document, *document["$defs"].values()] for key in section["properties"].values()]
    assert len(keys) > 60
    assert all(key["description"].endswith(".") for key in keys)


def test_defaults_are_written_as_in_the_file() -> None:
    definitions: dict[str, Any] = schema()["$defs"]
    assert definitions["Server"]["properties"]["listen"]["default"] == ["127.0.0.1:8080"]
    assert definitions["Limits"]["properties"]["header_size"]["default"] == "16KiB"
    assert definitions["Introspection"]["properties"]["customer_id"]["default"] == {"json": "/sub"}
    assert "default" not in definitions["Tls"]["properties"]["ca"]


def test_the_patterns_hold_no_construct_of_python_alone() -> None:
    assert "(?P" not in json.dumps(schema())
    assert "(?<" not in json.dumps(schema())
