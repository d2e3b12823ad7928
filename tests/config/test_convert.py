"""From YAML to the model: what each key takes, and the fault for everything else."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import Address, Config, ConfigError, CustomerId, Duration, Listener, PrivateKey, Scene, Secret, Size
from tests.config.files import Files


def _config(files: Files, **changes: str | None) -> Config:
    return files.load(files.text(**changes), environ={"PASSWORD": "hunter2", "HOST": "b.example", "LEVEL": "debug", "TTL": "5m"}).config


def test_a_minimal_file_gets_every_default(files: Files) -> None:
    config = _config(files)
    assert config.server.listen == (Listener(Address("127.0.0.1", 8080)),)
    assert config.server.limits.header_size == Size(16384)
    assert config.session.forward is not None
    assert config.session.forward.request_headers == ("Authorization", "Cookie")
    assert config.session.forward.cookies is None
    assert config.session.introspection is None
    assert config.alipayplus.host == ("https://alipayplus.example",)
    assert config.alipayplus.timeout == Duration(12)
    assert config.alipayplus.keepalive.age == Duration(600)
    assert config.alipayplus.tls is None
    assert dict(config.alipayplus.scenes) == {}
    assert config.telemetry.log.customer_hash_key is None


def test_paths_count_from_the_folder_of_the_file(files: Files) -> None:
    signing = _config(files).alipayplus.signing
    assert signing.private_keys["1"] == PrivateKey(file=files.folder / "keys/mpp-1.pem")
    absolute = _config(files, alipayplus__signing__private_keys='{"1": /keys/a.pem}').alipayplus.signing
    assert absolute.private_keys["1"].file == Path("/keys/a.pem")


def test_the_number_of_kept_connections_may_stand_for_their_section(files: Files) -> None:
    upstreams = "{w: {servers: [http://127.0.0.1:8082], keepalive: 256}}"
    api = _config(files, api=f"{{upstreams: {upstreams}, routes: [{{prefix: /, upstream: w}}]}}").api
    assert api is not None
    assert (api.upstreams["w"].keepalive.connections, api.upstreams["w"].keepalive.idle) == (256, Duration(20))


def test_a_list_may_be_written_as_its_only_element(files: Files) -> None:
    assert _config(files, server__listen="0.0.0.0:1").server.listen == (Listener(Address("0.0.0.0", 1)),)
    listed = _config(files, server__listen='[0.0.0.0:1, "[::1]:2", unix:run/gateway.sock, fd:web]').server.listen
    assert listed[:2] == (Listener(Address("0.0.0.0", 1)), Listener(Address("::1", 2)))
    assert listed[2:] == (Listener(path=files.folder / "run/gateway.sock"), Listener(name="web"))
    assert _config(files, alipayplus__host="[https://a, https://b:8443]").alipayplus.host == ("https://a", "https://b:8443")


@pytest.mark.parametrize(("raw", "share"), [("5e-05", 0.00005), ("1.2e-05", 0.000012), ("1e-06", 0.000001), ("'5e-05'", 0.00005)])
def test_a_small_share_may_stand_as_Helm_writes_it(files: Files, raw: str, share: float) -> None:
    assert _config(files, telemetry__log__sample=raw).telemetry.log.sample == share


def test_a_private_key_may_have_a_password(files: Files) -> None:
    keys = '{"1": {file: a.pem, password: "${env:PASSWORD}"}, "2": b.pem}'
    private_keys = _config(files, alipayplus__signing__private_keys=keys).alipayplus.signing.private_keys
    assert private_keys["1"].password == Secret("hunter2")
    assert private_keys["2"].password is None


def test_scenes_have_hosts_of_their_own(files: Files) -> None:
    config = _config(files, alipayplus__scenes="{PROXY_SCENE_PAY: {host: https://a}, B: {host: [https://b, https://c]}}")
    assert config.alipayplus.scenes == {"PROXY_SCENE_PAY": Scene(host=("https://a",)), "B": Scene(host=("https://b", "https://c"))}


def test_introspection_takes_the_subject_by_default(files: Files) -> None:
    given = "{url: https://a/introspect, client_id: g, client_secret: s}"
    introspection = _config(files, session__forward=None, session__introspection=given).session.introspection
    assert introspection is not None
    assert introspection.customer_id == CustomerId(json="/sub")


def test_texts_are_substituted_in_values_of_every_kind(files: Files) -> None:
    (files.folder / "secret").write_text("s3cret\n")
    config = _config(
        files,
        alipayplus__host="https://${env:HOST}",
        telemetry__log__level="${env:LEVEL}",
        session__cache__ttl="${env:TTL}",
        telemetry__log__customer_hash_key="${file:secret}",
    )
    assert config.alipayplus.host == ("https://b.example",)
    assert config.telemetry.log.level == "debug"
    assert config.session.cache.ttl == Duration(300)
    assert config.telemetry.log.customer_hash_key == Secret("s3cret")


@pytest.mark.parametrize("empty", ["", "~", "null", "{}"])
def test_an_empty_section_counts_as_absent(files: Files, empty: str) -> None:
    assert _config(files, server=empty, telemetry__log=empty, session__introspection="" if empty == "{}" else empty) == _config(files)


@pytest.mark.parametrize(
    ("key", "raw", "message"),
    [
        pytest.param("server__workers", "0", "write auto, or a number of processes from 1 to 256", id="E1-workers"),
        pytest.param("server__workers", "257", "write auto, or a number of processes from 1 to 256", id="E1-workers-many"),
        pytest.param("server__workers", "many", "write auto, or a number of processes from 1 to 256", id="E1-workers-word"),
        pytest.param("server__workers", '"1"', "a text, not a number: write 1 without quotes", id="E1-workers-text"),
        pytest.param("server__listen", "8080", "write the host too, such as 127.0.0.1:8080", id="E1-port-only"),
        pytest.param("server__listen", "1:30", "not an address: write host:port or", id="E1-sexagesimal"),
        pytest.param("server__listen", "'unix:'", "not a listener: write host:port or", id="E1-unix"),
        pytest.param("server__listen", "'fd:'", "not a listener: write host:port or", id="E1-fd"),
        pytest.param("server__listen", "'fd:a:b'", "not a listener: write host:port or", id="E1-fd-colon"),
        pytest.param("server__unix_mode", "0660", 'YAML does not read this as text: write "0660"', id="E1-mode-number"),
        pytest.param("server__unix_mode", '"660"', "not of the right form: write an octal mode such as 0660", id="E1-mode"),
        pytest.param("server__listen", "[]", "empty: write at least one element", id="E1-listen-empty"),
        pytest.param("server__listen", "{}", "not a list: write [a, b]", id="E1-listen-mapping"),
        pytest.param("admin__listen", "[127.0.0.1:1]", "a list or keys stand here: write a single value", id="E1-list-for-one"),
        pytest.param("session__cache__ttl", "0", "not a duration: write 0s", id="E1-duration-0"),
        pytest.param("session__cache__ttl", "10", "not a duration: write 10s or 500ms", id="E1-duration-number"),
        pytest.param("session__cache__ttl", "25h", "out of bounds: write 0s to 24h", id="E1-duration-large"),
        pytest.param("session__cache__ttl", "", "empty: write a value", id="E1-null"),
        pytest.param("session__cache__ttl", '""', "empty: write a text", id="E1-empty-text"),
        pytest.param("session__cache__max_entries", "0", "out of bounds: write 1 to 10000000", id="E1-number-0"),
        pytest.param("session__cache__max_entries", "-1", "out of bounds: write 1 to 10000000", id="E1-number-negative"),
        pytest.param("session__cache__max_entries", "1" + "0" * 18, "out of bounds: write 1 to 10000000", id="E1-number-large"),
        pytest.param("session__cache__max_entries", "9" * 1000, "out of bounds: write 1 to 10000000", id="E1-number-very-large"),
        pytest.param("session__cache__max_entries", "1_000", "not a whole number: write it in digits", id="E1-number-underscore"),
        pytest.param("session__cache__max_entries", "0x10", "not a whole number: write it in digits", id="E1-number-hex"),
        pytest.param("session__cache__max_entries", "010", "not a whole number: write it in digits", id="E1-number-octal"),
        pytest.param("session__cache__max_entries", "1.0", "not a whole number: write it in digits", id="E1-number-float"),
        pytest.param("session__cache__max_entries", "9" * 5000, "not a whole number: write it in digits", id="E1-number-huge"),
        pytest.param("session__cache__max_entries", "true", "not a whole number: write it in digits", id="E1-number-bool"),
        pytest.param("telemetry__log__sample", "0.1234567", "write a number from 0 to 1 with at most six decimals", id="E1-share-decimals"),
        pytest.param("telemetry__log__sample", "1e-3", "write a number from 0 to 1 with at most six decimals", id="E1-share-exponent"),
        pytest.param("telemetry__log__sample", '"0.5"', "a text, not a number: write 0.5 without quotes", id="E1-share-text"),
        pytest.param("telemetry__log__sample", "'1'", "a text, not a number: write 1 without quotes", id="E1-share-whole-text"),
        pytest.param("alipayplus__timeout", "2h", "out of bounds: write 1ms to 1h", id="E1-timeout-large"),
        pytest.param("alipayplus__connect_timeout", "0s", "out of bounds: write 1ms to 1h", id="E1-timeout-0"),
        pytest.param("server__limits__header_size", "16", "not a size: write 16B", id="E1-size-number"),
        pytest.param("server__limits__header_size", "16KB", "not a size: write 16KiB", id="E1-size-KB"),
        pytest.param("server__limits__header_size", "16B", "out of bounds: write 1KiB to 1MiB", id="E1-size-small"),
        pytest.param("alipayplus__client_id", "2188", 'YAML does not read this as text: write "2188"', id="E1-text-number"),
        pytest.param("alipayplus__client_id", "yes", 'YAML does not read this as text: write "yes"', id="E1-text-bool"),
        pytest.param("alipayplus__client_id", "2024-01-01", 'YAML does not read this as text: write "2024-01-01"', id="E1-text-date"),
        pytest.param("alipayplus__client_id", "a b", "not of the right form: write 1 to 128 printable", id="E1-client-id-space"),
        pytest.param("alipayplus__client_id", '"a\\nb"', "line breaks and control characters cannot stand here", id="E1-client-id-newline"),
        pytest.param("alipayplus__client_id", '"\\uD800"', "line breaks and control characters cannot stand here", id="E1-surrogate"),
        pytest.param("alipayplus__client_id", "*a", "aliases (*name) are not supported", id="E1-alias"),
        pytest.param("alipayplus__client_id", "!secret a", "tags (!name) are not supported", id="E1-tag"),
        pytest.param("alipayplus__client_id", "!!python/object:os.system a", "tags (!name) are not supported", id="E1-python-tag"),
        pytest.param("alipayplus__signing__key_version", "1", 'YAML does not read this as text: write "1"', id="E1-key-version"),
        pytest.param(
            "alipayplus__signing__key_version", '"1,2"', "not of the right form: write printable ASCII", id="E1-key-version-comma"
        ),
        pytest.param("alipayplus__signing__key_version", '"*"', "not of the right form: write printable ASCII", id="E1-key-version-any"),
        pytest.param("alipayplus__verification__public_keys", "{}", "empty: write at least one key below it", id="E1-no-keys"),
        pytest.param("alipayplus__verification__public_keys", "a.pem", "not a section: write keys below it", id="E1-keys-text"),
        pytest.param(
            "alipayplus__verification__public_keys", "{1: a.pem}", 'YAML does not read this key as text: write "1"', id="E1-key-number"
        ),
        pytest.param(
            "alipayplus__signing__private_keys", "{1: a.pem}", 'YAML does not read this key as text: write "1"', id="E1-private-key-number"
        ),
        pytest.param(
            "alipayplus__verification__public_keys",
            '{"${env:V}": a.pem}',
            'public_keys."${env:V}": this key: ${...} counts in values only: write it out',
            id="E1-key-substituted",
        ),
        pytest.param("alipayplus__verification__public_keys", "{[a]: b}", "a key is a plain text", id="E1-key-list"),
        pytest.param("alipayplus__verification__allow_unsigned_failures", "yes", "neither true nor false", id="E1-yes"),
        pytest.param("alipayplus__verification__allow_unsigned_failures", '"true"', "neither true nor false", id="E1-true-text"),
        pytest.param("telemetry__log__level", "warn", "write debug or info or warning or error", id="E1-level"),
        pytest.param("telemetry__log__level", "off", "write debug or info or warning or error", id="E1-level-bool"),
        pytest.param("session__forward__request_headers", "Cookie", "not a list: write [Cookie]", id="E1-list-text"),
        pytest.param("session__forward__request_headers", "[]", "empty: write at least one element", id="E1-list-empty"),
        pytest.param("session__forward__request_headers", "[Cookie, cookie]", "stands twice in this list", id="E1-list-twice"),
        pytest.param("session__forward__forward_headers", "[X-Request-Id]", "the gateway sets this header itself", id="E1-forwarded-own"),
        pytest.param("session__identity_header", "x_real_ip", "the gateway sets this header itself", id="E1-identity-own"),
        pytest.param("session__forward__cookies", "[sid, sid]", "stands twice in this list", id="E1-cookie-twice"),
        pytest.param("session__forward__cookies", "[a=b]", "write the name of a cookie, such as sid", id="E1-cookie-name"),
        pytest.param("session__forward__customer_id", "X-Customer-Id", "not a section: write keys below it: header, json", id="E1-section"),
        pytest.param("session__forward__customer_id", "", "required: Where the customer id stands", id="E1-required-empty"),
        pytest.param("session__forward__url", None, "required: The auth service", id="E1-required"),
        pytest.param("alipayplus__tls__ca", "", "empty: write a value, or remove the key", id="E1-null-optional"),
        pytest.param("alipayplus__scenes", "{A: https://a}", "not a section: write keys below it: host", id="E1-scene"),
        pytest.param("alipayplus__scenes", '{"": {host: https://a}}', "this key: not of the right form", id="E1-scene-name"),
        pytest.param("alipayplus__keepalive", "[20s]", "not a section: write keys below it: idle, age", id="E1-section-list"),
    ],
)
def test_E1_a_wrong_value_is_a_fault_that_says_what_is_right(files: Files, key: str, raw: str | None, message: str) -> None:
    assert message in files.only_fault(**{key: raw})


@pytest.mark.parametrize(
    ("key", "message"),
    [
        pytest.param("server__lisen", "server.lisen: unknown key: did you mean listen?", id="E1-near"),
        pytest.param("Server", "Server: unknown key: did you mean server?", id="E1-case"),
        pytest.param("alipayplus__time_out", "alipayplus.time_out: unknown key: did you mean timeout?", id="E1-underscore"),
        pytest.param("sdk_proxy__zzz", "sdk_proxy.zzz: unknown key: here stand path_prefix, max_body", id="E1-far"),
        pytest.param("alipayplus__signing__x y", 'alipayplus.signing."x y": unknown key: here stand', id="E1-quoted"),
    ],
)
def test_E1_an_unknown_key_comes_with_the_nearest_known_one(files: Files, key: str, message: str) -> None:
    (fault,) = files.faults(files.text(**{key: "1"}))
    assert message in fault


@pytest.mark.parametrize("changes", ["request_headers", "response_headers"])
@pytest.mark.parametrize("kind", ["set", "add"])
def test_E1_a_header_that_stands_twice_in_two_spellings_names_both_lines(files: Files, changes: str, kind: str) -> None:
    text = files.text(api__upstreams="{w: {servers: http://a}}")
    text += f"  routes:\n  - prefix: /\n    upstream: w\n    {changes}:\n      {kind}:\n        X-A: b\n        X-B: b\n        x-a: c\n"
    lines = len(text.splitlines())
    assert files.faults(text) == [f"{lines}: api.routes[0].{changes}.{kind}.x-a: stands twice, first on line {lines - 2}: keep one"]


def test_E1_a_key_that_stands_twice_names_both_lines(files: Files) -> None:
    text = files.text() + "server:\n  listen: 127.0.0.1:1\n  listen: 127.0.0.1:2\nserver:\n"
    lines = len(files.text().splitlines())
    assert files.faults(text) == [
        f"{lines + 3}: server.listen: stands twice, first on line {lines + 2}: keep one",
        f"{lines + 4}: server: stands twice, first on line {lines + 1}: keep one",
    ]


def test_E1_merge_keys_are_refused(files: Files) -> None:
    assert any(
        "merge keys (<<) are not supported" in fault for fault in files.faults(files.text() + "server:\n  <<: {listen: 127.0.0.1:1}\n")
    )


def test_E1_all_faults_come_at_once_in_the_order_of_the_file(files: Files) -> None:
    text = """\
server:
  lisen: 1
  drain_timeout: 10
session:
  forward:
    url: nonsense
    customer_id: {header: X, json: /x}
  introspection:
    url: https://a
alipayplus:
  client_id: 1
  host: [http://a, "https://b/c"]
  timeout: 9s
  signing:
    key_version: "2"
    private_keys: {"1": "${file:nope}"}
"""
    assert [fault.partition(": ")[::2][0] + " " + fault.split(": ")[1] for fault in files.faults(text)] == [
        "2 server.lisen",
        "3 server.drain_timeout",
        "4 session",
        "6 session.forward.url",
        "7 session.forward.customer_id",
        "8 session.introspection.client_id",
        "8 session.introspection.client_secret",
        "10 alipayplus.verification",
        "11 alipayplus.client_id",
        "12 alipayplus.host[0]",
        "12 alipayplus.host[1]",
        "13 alipayplus.timeout",
        "15 alipayplus.signing.key_version",
        '16 alipayplus.signing.private_keys."1"',
    ]


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("telemetry__log__customer_hash_key", "12345678"),
        ("telemetry__log__customer_hash_key", "!hunter2 x"),
        ("telemetry__log__customer_hash_key", "*hunter2"),
        ("telemetry__log__customer_hash_key", "[hunter2]"),
        ("telemetry__log__customer_hash_key", '"hunter2\\n"'),
        ("telemetry__log__customer_hash_key", "{hunter2: hunter2}"),
        ("session__forward__url", "http://user:hunter2@host/"),
        ("alipayplus__proxy", "http://user:hunter2@host:3128"),
        ("session__cache__ttl", "${env:SECRET}"),
        ("server__listen", "${env:SECRET}"),
        ("telemetry__log__level", "${env:SECRET}"),
        ("alipayplus__client_id", "a ${env:SECRET}"),
        ("session__forward__request_headers", "[ '${env:SECRET} ']"),
    ],
)
def test_a_fault_repeats_no_secret(files: Files, key: str, raw: str) -> None:
    (fault,) = files.faults(files.text(**{key: raw}), environ={"SECRET": "hunter2"})
    assert "hunter2" not in fault
    assert "12345678" not in fault


def test_the_configuration_prints_no_secret(files: Files) -> None:
    config = _config(
        files,
        session__forward=None,
        session__introspection="{url: https://a, client_id: g, client_secret: hunter2}",
        alipayplus__signing__private_keys='{"1": {file: a, password: hunter2}}',
        telemetry__log__customer_hash_key="hunter2",
    )
    assert "hunter2" not in repr(config) + str(config)
    assert repr(config).count("***") == 3


def test_the_configuration_cannot_be_changed(files: Files) -> None:
    with pytest.raises(AttributeError):
        _config(files).server.drain_timeout = Duration(1)  # type: ignore[misc]  # that it cannot be set is the point


_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["${env:X}", "1s", "http://a", "*"])
)
_KEYS = st.sampled_from(["server", "session", "alipayplus", "forward", "listen", "signing", "private_keys", "tls", "timeout", "url", "1"])
_TREES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=3), inner, max_size=5))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(_TREES)
def test_E1_any_tree_is_a_list_of_faults(files: Files, tree: object) -> None:
    import yaml  # noqa: PLC0415  only here

    for fault in files.faults(yaml.safe_dump(tree, allow_unicode=True).encode(errors="replace")):
        assert "INVALID" not in fault


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.data())
def test_E1_any_damage_to_a_good_file_is_read_or_a_list_of_faults(files: Files, data: st.DataObject) -> None:
    text = files.text(server__listen="[127.0.0.1:1, 127.0.0.1:2]", telemetry__log__customer_hash_key='"${env:X}"').encode()
    at = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 10))
    damaged = (
        text[:at]
        + data.draw(st.binary(max_size=5) | st.sampled_from([b"*", b"&a ", b"!x ", b"\n", b"  ", b"${", b"~"]))
        + text[at + length :]
    )
    try:
        files.load(damaged)
    except ConfigError as error:
        assert len(error.faults) > 0  # noqa: PT017  both outcomes are right
