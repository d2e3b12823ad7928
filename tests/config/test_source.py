"""Files that cannot be read or are not YAML: a fault with a line, never a traceback."""

import traceback
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import ConfigError
from gateway.config.source import compose, read_text

FILE = Path("gateway.yaml")


def _refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compose(FILE, text)
    return str(caught.value)


def test_E1_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.yaml: the file cannot be read: No such file or directory"):
        read_text(tmp_path / "gateway.yaml")


def test_E1_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        read_text(tmp_path)


def test_E1_a_path_that_is_none() -> None:
    with pytest.raises(ConfigError, match="not a valid path"):
        read_text(Path("a\x00b"))


def test_E1_a_file_without_end() -> None:
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        read_text(Path("/dev/zero"))


def test_E1_bad_utf8_is_found_by_line(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigError, match="f:2: this line is not UTF-8"):
        read_text(tmp_path / "f")


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        pytest.param("", "the file is empty", id="E1-empty"),
        pytest.param("# only a comment\n", "the file is empty", id="E1-comment"),
        pytest.param("---\n...\n", "the file is empty", id="E1-empty-document"),
        pytest.param("- a\n", ":1: the file must be a mapping", id="E1-list"),
        pytest.param("\n\nserver\n", ":3: the file must be a mapping", id="E1-text"),
        pytest.param("*a\n", ":1: the file must be a mapping", id="E1-alias"),
        pytest.param("a: [\n", ":2: not YAML: expected the node content", id="E1-open-list"),
        pytest.param("a: 1\nb: 'x\n", ":2: not YAML: found unexpected end of stream", id="E1-open-quote"),
        pytest.param("a: 1\n b: 2\n", ":2: not YAML: mapping values are not allowed here", id="E1-indent"),
        pytest.param("a:\n\tb: 1\n", ":2: not YAML: found character", id="E1-tab"),
        pytest.param("a: 1\nb\n", ":2: not YAML: could not find expected ':'", id="E1-no-colon"),
        pytest.param("a: 1\n---\nb: 1\n", ":2: not YAML: a second document begins here", id="E1-two-documents"),
        pytest.param("a: &x 1\nb: &x 2\n", ":2: not YAML: an anchor (&name) stands twice", id="E1-anchors"),
        pytest.param('a: "\\UFFFFFFFF"\n', ":1: not YAML: no such character", id="E1-beyond-unicode"),
        pytest.param("a: 1\nb: \x00\n", ":2: not YAML: a character that is not allowed", id="E1-nul"),
        pytest.param("a: " + "[" * 5000, ":1: not YAML: nested too deeply", id="E1-deep-flow"),
        pytest.param("\n".join(" " * depth + "a:" for depth in range(500)), ":32: not YAML: nested too deeply", id="E1-deep-block"),
        pytest.param("{a: ${env:X}}", "write ${...} in double quotes", id="E1-substitution-in-flow"),
    ],
)
def test_E1_what_is_not_a_mapping_in_yaml_is_refused_with_its_line(text: str, refusal: str) -> None:
    assert refusal in _refusal(text)


@pytest.mark.parametrize(
    "text", ["a: !hunter2! x", "a: &hunter2 1\nb: &hunter2 2", "a: *hun$ter2", "a: %hunter2", "a: 'hunter2", "a: @hunter2", "a: >hunter2\n"]
)
def test_E1_a_syntax_error_does_not_repeat_what_may_be_a_secret(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(FILE, text)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_aliases_are_not_expanded() -> None:
    bomb = "a: &a [x]\n" + "".join(f"{new}: &{new} [*{old}, *{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True))
    root = compose(FILE, bomb)
    assert [node.tag for node in root.value[-1][1].value] == ["!alias"] * 3


def test_a_byte_order_mark_is_passed_over() -> None:
    assert compose(FILE, "\ufeffa: 1\n").value[0][0].value == "a"


@given(st.text(max_size=60) | st.text(alphabet="ab:-[]{}&*!|>'\"%@`#?, \n\t\\$", max_size=60))
def test_E1_any_text_is_composed_or_refused(text: str) -> None:
    with suppress(ConfigError):
        assert compose(FILE, text).value is not None
