"""Loading: what checks of others get, and how their faults find their lines."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, Fault, load
from gateway.config.draft import Unreadable
from gateway.config.loader import read_partly
from gateway.passthrough.ways import check_api
from tests.config.files import Files


def _complain(_: Config) -> Iterator[Fault]:
    yield Fault(("alipayplus", "signing", "private_keys", "1"), "no such key")
    yield Fault(("alipayplus", "signing", "private_keys", "1", "password"), "doubtful", warning=True)
    yield Fault((), "everything")


def test_faults_of_checks_get_the_line_of_their_key_or_of_the_nearest_section(files: Files) -> None:
    text = files.text()
    line = next(number for number, content in enumerate(text.splitlines(), 1) if "private_keys" in content)
    assert files.faults(text, [_complain]) == [
        "1: everything",
        f'{line}: alipayplus.signing.private_keys."1": no such key',
        f'{line}: alipayplus.signing.private_keys."1".password: warning: doubtful',
    ]


def test_warnings_alone_are_no_error(files: Files) -> None:
    loaded = files.load(files.text(), [lambda _: [Fault(("admin",), "doubtful", warning=True)]])
    assert [str(fault) for fault in loaded.warnings] == [f"{files.file}:1: admin: warning: doubtful"]


def test_E1_checks_find_what_they_can_where_a_value_could_not_be_read(files: Files) -> None:
    def check(config: Config) -> Iterator[Fault]:
        yield Fault(("alipayplus", "signing"), "found")
        if config.alipayplus.client_id:
            yield Fault(("alipayplus", "verification"), "cannot be told")

    faults = files.faults(files.text(alipayplus__client_id="1"), [check])
    assert [fault.split(": ")[1] for fault in faults] == ["alipayplus.signing", "alipayplus.client_id"]


def test_a_list_with_an_element_that_could_not_be_read_is_not_looked_at(files: Files) -> None:
    route = "{prefix: /, upstream: w, request_headers: {remove: [X-A, 1]}}"
    api = f"{{upstreams: {{w: {{servers: 'http://a'}}}}, routes: [{route}]}}"
    [fault] = files.faults(files.text(api=api), [check_api])
    assert "api.routes[0].request_headers.remove[1]: YAML does not read this as text" in fault


def test_a_fault_that_a_rule_has_found_is_not_told_twice(files: Files) -> None:
    path = ("alipayplus", "signing", "key_version")
    faults = files.faults(
        files.text(alipayplus__signing__key_version='"2"'), [lambda _: [Fault(path, "again"), Fault(path, "but", warning=True)]]
    )
    assert [fault.split(": ", 2)[2] for fault in faults] == ['no private key has this version: write one of "1"', "warning: but"]


def test_E1_the_error_lists_every_fault_a_line(files: Files) -> None:
    with pytest.raises(ConfigError) as caught:
        files.load(files.text(alipayplus__timeout="5s", sdk_proxy__x="1"))
    assert str(caught.value).splitlines() == [str(fault) for fault in caught.value.faults]
    assert len(caught.value.faults) == 2


def test_paths_count_from_the_file_wherever_the_process_stands(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    files.file.write_text(files.text())
    monkeypatch.chdir(files.folder)
    config = load(Path("gateway.yaml")).config
    assert config.alipayplus.signing.private_keys["1"].file == files.folder / "keys/mpp-1.pem"


@pytest.mark.parametrize("name", [b"caf\xe9/gateway.yaml", b"caf\xe9.yaml"])
def test_E1_a_path_that_is_not_UTF_8_is_refused(files: Files, name: bytes) -> None:
    file = files.folder / os.fsdecode(name)
    file.parent.mkdir(exist_ok=True)
    file.write_text(files.text())
    with pytest.raises(ConfigError, match="the path of this file is not UTF-8"):
        load(file)


def test_the_environment_is_that_of_the_process_by_default(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TEST_CLIENT", "T_1")
    files.file.write_text(files.text(alipayplus__client_id="${env:GATEWAY_TEST_CLIENT}"))
    assert load(files.file).config.alipayplus.client_id == "T_1"


def test_what_can_be_read_of_a_faulty_file_is_read(files: Files) -> None:
    files.file.write_text(files.text(server__pid_file="g.pid", server__drain_timeout="soon", alipayplus__client_id=None))
    config = read_partly(files.file, environ={})
    assert config.server.pid_file == files.folder / "g.pid"
    with pytest.raises(Unreadable):
        str(config.server.drain_timeout)


def test_of_what_is_no_YAML_nothing_is_read(files: Files) -> None:
    files.file.write_text("server: [")
    with pytest.raises(ConfigError):
        read_partly(files.file)
