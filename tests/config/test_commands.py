"""What the commands print, and their exit codes."""

import json

import pytest

from gateway.config import Fault, commands
from tests.config.files import Files


def test_check_prints_the_ladder_and_that_all_is_well(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.file.write_text(files.text())
    assert commands.check(files.file) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["session.forward.timeout", "2s"],
        ["alipayplus.queue_timeout", "1s"],
        ["alipayplus.connect_timeout", "3s"],
        ["alipayplus.timeout", "12s"],
        ["all", "of", "them", "18s"],
        ["server.drain_timeout", "30s"],
        ["configuration", "is", "valid"],
    ]


def test_check_prints_warnings_to_standard_error(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.file.write_text(files.text(server__drain_timeout="1s"))
    assert commands.check(files.file) == 0
    out, err = capsys.readouterr()
    assert "server.drain_timeout: warning: " in err
    assert out.endswith("configuration is valid\n")


@pytest.mark.parametrize("command", [commands.check, commands.show])
def test_E1_every_fault_is_a_line_and_the_exit_code_3(files: Files, capsys: pytest.CaptureFixture[str], command: type) -> None:
    files.file.write_text(files.text(alipayplus__timeout="5s", session__forward__url="x"))
    assert command(files.file, [lambda _: [Fault(("alipayplus", "signing"), "found")]]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(": ")[1] for line in err.splitlines()] == ["session.forward.url", "alipayplus.signing", "alipayplus.timeout"]
    assert all(line.startswith(f"{files.file}:") for line in err.splitlines())


def test_E1_a_missing_file_is_one_line(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.check(files.file) == 3
    assert capsys.readouterr().err == f"{files.file}: the file cannot be read: No such file or directory\n"


def test_faults_of_further_checks_count(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.file.write_text(files.text())
    assert commands.check(files.file, [lambda _: [Fault(("alipayplus",), "no key")]]) == 3
    assert "alipayplus: no key" in capsys.readouterr().err


def test_show_prints_the_configuration_without_secrets(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files.file.write_text(files.text(telemetry__log__customer_hash_key="hunter2"))
    assert commands.show(files.file) == 0
    out = capsys.readouterr().out
    assert "hunter2" not in out
    assert "customer_hash_key: '***'" in out


def test_schema_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.schema() == 0
    assert json.loads(capsys.readouterr().out)["title"] == "alipayplus-gateway configuration"
