"""The file's text and its YAML tree: read in bounds, composed with the place of every node, never constructed.

Aliases are not supported (a few lines of them expand to gigabytes) and stay in the tree as nodes with the tag ALIAS, to be reported
where they stand. What the tree means is left to `gateway.config.convert`.
"""

import os
import re
from pathlib import Path
from typing import Final

import yaml

from gateway.config.faults import ConfigError, Fault

ALIAS: Final = "!alias"
_FILE_MAX: Final = 1 << 20
_DEPTH_MAX: Final = 32
# Names that PyYAML repeats in its messages; a secret that begins with & or ! reads as one.
_REPEATED_NAME: Final = re.compile(r"(tag handle) '[^']*'")
_UNFINISHED: Final = ("end of stream", "<stream end>", "could not find expected ':'")
_CLEARER: Final = {
    "second occurrence": "an anchor (&name) stands twice; aliases are not supported: write the value out",
    "but found another document": "a second document begins here: a file holds one",
}


def read_text(file: Path) -> str:
    """Read the file as UTF-8, at most 1 MiB of it; raises ConfigError."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_FILE_MAX + 1)
    except (OSError, ValueError) as error:
        raise _refused(file, f"the file cannot be read: {_reason(error)}") from error
    if len(data) > _FILE_MAX:
        raise _refused(file, "the file is larger than 1 MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _refused(file, "this line is not UTF-8", data.count(b"\n", 0, error.start) + 1) from None  # it holds the file


def compose(file: Path, text: str) -> yaml.MappingNode:
    """Compose the one document of this file, a mapping; raises ConfigError with the line of what is not YAML."""
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _refused(file, "not YAML: a character that is not allowed", line) from error
    try:
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = _line_of(error, loader.line) + 1
        raise _refused(file, _syntax(error, text, line), line) from None  # it quotes the file, secrets too
    except (ValueError, OverflowError):  # an escape beyond Unicode
        raise _refused(file, "not YAML: no such character", loader.line + 1) from None
    if root is None or root.tag == "tag:yaml.org,2002:null":
        raise _refused(file, "the file is empty: session and alipayplus are required")
    if not isinstance(root, yaml.MappingNode):
        raise _refused(file, "the file must be a mapping of keys, such as `server:`", root.start_mark.line + 1)
    return root


class _Loader(yaml.SafeLoader):
    """Composes nodes; an alias becomes a node of its own instead of the node that it names, and depth is bounded."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call]  # as above
            return yaml.ScalarNode(ALIAS, "", event.start_mark, event.end_mark)
        if self._depth == _DEPTH_MAX:
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]  # as above
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _refused(file: Path, message: str, line: int | None = None) -> ConfigError:
    return ConfigError([Fault((), message, line=line, file=file)])


def _reason(error: OSError | ValueError) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "not a valid path"


def _line_of(error: yaml.MarkedYAMLError, reached: int) -> int:
    """Find the line, from 0; what is not finished is at fault where it begins."""
    unfinished = any(words in (error.problem or "") for words in _UNFINISHED)
    mark = (error.context_mark if unfinished else None) or error.problem_mark
    return mark.line if mark else reached


def _syntax(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    problem = _REPEATED_NAME.sub(r"\1", error.problem or "")
    problem = _CLEARER.get(problem, problem)
    if any("${" in part for part in text.split("\n")[line - 1 : line]):
        problem += " (inside { } and [ ], write ${...} in double quotes)"
    return f"not YAML: {problem}"
