"""`${env:NAME}` and `${file:PATH}` in the texts of the file.

`$${` stands for `${` itself. What comes out is not looked at again, so a value that holds `${` stays as it is.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE_MAX: Final = 64 * 1024
"""Bytes. No configured text is longer; a device or a log file named by mistake is not read to its end."""

_PLACE: Final = re.compile(r"\$(\$\{)|\$\{(?:(env|file):([^}]+)\})?")
_HOW: Final = "write ${env:NAME} or ${file:PATH}, or $${ for the two characters themselves"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A text after substitution; with `problems`, it is not to be used. The problems name sources, never their content."""

    text: str
    substituted: bool = False
    problems: tuple[str, ...] = ()


def resolve(text: str, directory: Path, environ: Mapping[str, str]) -> Resolved:
    """Replace every `${env:NAME}` and `${file:PATH}`; relative paths count from `directory`.

    A trailing newline of a file is cut, and a byte order mark before its text.
    """
    if "${" not in text:
        return Resolved(text)
    problems: list[str] = []

    def value(match: re.Match[str]) -> str:
        escaped, kind, name = match.groups()
        if escaped:
            return "${"
        try:
            return _source(kind, name, directory, environ)
        except _Unresolved as error:
            problems.append(str(error))
            return ""

    replaced = _PLACE.sub(value, text)
    return Resolved(replaced, substituted=True, problems=tuple(problems))


def substituted_files(text: str, directory: Path) -> tuple[Path, ...]:
    """Return the files that a text, or a whole configuration file, names as `${file:PATH}`, whether they are there or not."""
    return tuple(directory / name for escaped, kind, name in _PLACE.findall(text) if not escaped and kind == "file")


class _Unresolved(Exception):
    """A place that cannot be resolved; its text says why."""


def _source(kind: str | None, name: str, directory: Path, environ: Mapping[str, str]) -> str:
    if kind is None or not name.isprintable():
        raise _Unresolved(_HOW)
    if kind == "file":
        return _content(directory / name, name)
    if name not in environ:
        raise _Unresolved(f"the environment has no variable {name}")
    return _decoded(environ[name], name)


def _decoded(text: str, variable: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # Python keeps such bytes as surrogates; the error holds the text
        raise _Unresolved(f"the environment's variable {variable} is not UTF-8 text") from None
    return text


def _content(file: Path, name: str) -> str:
    try:
        if not file.is_file():  # a pipe could block for ever
            raise _Unresolved(f"${{file:{name}}}: {'not a regular file' if file.exists() else 'there is no such file'}")
        with file.open("rb") as stream:
            data = stream.read(FILE_MAX + 1)
        if len(data) > FILE_MAX:
            raise _Unresolved(f"${{file:{name}}}: the file is larger than 64 KiB")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _Unresolved(f"${{file:{name}}}: the file is not UTF-8 text") from None  # the error holds the file's bytes
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "not a valid path"
        raise _Unresolved(f"${{file:{name}}}: {reason}") from None
    return text.removesuffix("\n").removesuffix("\r")
