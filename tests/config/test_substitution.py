"""${env:NAME} and ${file:PATH}."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.substitution import FILE_MAX, resolve, substituted_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "one").write_text("s3cret\n")
    return tmp_path


def test_a_variable_is_put_in_place(folder: Path) -> None:
    resolved = resolve("a-${env:X}-${env:X}", folder, {"X": "1"})
    assert (resolved.text, resolved.substituted, resolved.problems) == ("a-1-1", True, ())


@pytest.mark.parametrize(("content", "text"), [("x", "x"), ("x\n", "x"), ("x\r\n", "x"), ("x\n\n", "x\n"), ("", ""), (" x ", " x ")])
def test_one_newline_at_a_files_end_is_cut(folder: Path, content: str, text: str) -> None:
    (folder / "f").write_bytes(content.encode())
    assert resolve("${file:f}", folder, {}).text == text


def test_a_byte_order_mark_at_a_files_beginning_is_no_part_of_the_text(folder: Path) -> None:
    (folder / "f").write_bytes(b"\xef\xbb\xbfs3cret\r\n")
    assert resolve("${file:f}", folder, {}).text == "s3cret"


def test_paths_count_from_the_folder_or_are_absolute(folder: Path) -> None:
    assert resolve("${file:secrets/one}", folder, {}).text == "s3cret"
    assert resolve(f"${{file:{folder}/secrets/one}}", Path("/nowhere"), {}).text == "s3cret"


def test_a_doubled_dollar_stands_for_itself(folder: Path) -> None:
    assert resolve("$${env:X} $${ $$ $ {} $x", folder, {"X": "1"}).text == "${env:X} ${ $$ $ {} $x"


def test_what_comes_out_is_not_looked_at_again(folder: Path) -> None:
    assert resolve("${env:X}", folder, {"X": "${env:Y}", "Y": "no"}).text == "${env:Y}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("${env:NOPE}", "the environment has no variable NOPE"),
        ("${env:BINARY}", "the environment's variable BINARY is not UTF-8 text"),
        ("${file:nope}", "${file:nope}: there is no such file"),
        ("${file:secrets}", "${file:secrets}: not a regular file"),
        ("${file:/dev/zero}", "${file:/dev/zero}: not a regular file"),
        ("${file:big}", "${file:big}: the file is larger than 64 KiB"),
        ("${file:big-cut-within-a-character}", "${file:big-cut-within-a-character}: the file is larger than 64 KiB"),
        ("${file:binary}", "${file:binary}: the file is not UTF-8 text"),
        ("${NOPE}", "write ${env:NAME} or ${file:PATH}, or $${ for the two characters themselves"),
        ("${env:}", "write ${env:NAME} or ${file:PATH}, or $${ for the two characters themselves"),
        ("${env:X\x1b[1m}", "write ${env:NAME} or ${file:PATH}, or $${ for the two characters themselves"),
        ("${env:X", "write ${env:NAME} or ${file:PATH}, or $${ for the two characters themselves"),
    ],
)
def test_E1_what_cannot_be_resolved_is_a_problem(folder: Path, text: str, problem: str) -> None:
    (folder / "big").write_bytes(b"x" * (FILE_MAX + 1))
    (folder / "big-cut-within-a-character").write_bytes("é".encode() * FILE_MAX)
    (folder / "binary").write_bytes(b"\xff\xfe")
    assert resolve(text, folder, {"X": "1", "BINARY": os.fsdecode(b"p\xe4ssword")}).problems == (problem,)


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert resolve("${file:pipe}", folder, {}).problems == ("${file:pipe}: not a regular file",)


def test_every_problem_of_a_text_is_told(folder: Path) -> None:
    assert len(resolve("${env:A}${file:b}${c}", folder, {}).problems) == 3


@given(st.text(alphabet="${}envfil:X\x00/", max_size=30))
def test_any_text_is_resolved_or_a_problem(text: str) -> None:
    resolved = resolve(text, Path("/nowhere"), {"X": "1"})
    assert resolved.problems or resolved.substituted or resolved.text == text


def test_the_files_that_a_text_names_are_told_whether_they_are_there_or_not(tmp_path: Path) -> None:
    text = "a: ${file:a/b}\nb: $${file:c} ${env:D}\nc: '${file:/e} ${file:f}'\n"
    assert substituted_files(text, tmp_path) == (tmp_path / "a/b", Path("/e"), tmp_path / "f")
