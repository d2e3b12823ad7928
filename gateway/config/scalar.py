"""One value of the file by its type and rules.

YAML's own guesses count for nothing beyond text, whole numbers, true, false and empty: `yes`, `0x1F` or `1_000` are faults. What came
from a substitution, and every secret, is never repeated in a message.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from gateway.config.listener import Listener
from gateway.config.rules import Bounds, MaskedIfSubstituted, PathBehind, Text
from gateway.config.shape import Shape
from gateway.config.substitution import Resolved
from gateway.config.values import Address, Duration, Secret, Share, Size, Workers

YAML: Final = "tag:yaml.org,2002:"
TEXT: Final = f"{YAML}str"
NULL: Final = f"{YAML}null"
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")
_WHOLE: Final = re.compile("-?(?:0|[1-9][0-9]{0,999})")  # Python reads no more than 4300 digits
_NUMBERS: Final = {int: _WHOLE, Workers: _WHOLE, Share: re.compile(Share.DECIMAL)}
_PARSED: Final = (Duration, Size, Share, Workers, Address, Listener)


class Wrong(Exception):
    """What is wrong with a value, one message each."""

    def __init__(self, *messages: str) -> None:
        super().__init__(*messages)
        self.messages = messages


def read_scalar(node: yaml.ScalarNode, shape: Shape, directory: Path, resolve: Callable[[str], Resolved]) -> Any:
    """Read a value; paths count from `directory`. Raises Wrong."""
    if node.tag == NULL and not node.style:
        raise Wrong("empty: write a value" + (", or remove the key" if shape.optional else ""))
    if shape.kind is bool:
        return _switch(node)
    if shape.kind is int:
        return _number(node, shape)
    return _text(_plain_text(node, shape, resolve), shape, directory)


def _switch(node: yaml.ScalarNode) -> bool:
    if node.tag != f"{YAML}bool" or node.value not in {"true", "false"}:
        raise Wrong("neither true nor false: write one of them")
    return bool(node.value == "true")


def _number(node: yaml.ScalarNode, shape: Shape) -> int:
    if node.tag != f"{YAML}int" or not _WHOLE.fullmatch(node.value):
        raise Wrong(_unquoted(node, shape) or "not a whole number: write it in digits")
    number = int(node.value)
    _in_bounds(number, shape, str)
    return number


def _unquoted(node: yaml.ScalarNode, shape: Shape) -> str | None:
    """Say what is wrong with a number that was written as a text."""
    number = _NUMBERS.get(shape.kind)
    is_quoted = number and node.tag == TEXT and number.fullmatch(node.value)
    return f"a text, not a number: write {node.value} without quotes" if is_quoted else None


def _plain_text(node: yaml.ScalarNode, shape: Shape, resolve: Callable[[str], Resolved]) -> Resolved:
    if node.tag != TEXT and shape.kind not in _PARSED:
        raise Wrong(_in_quotes(node, shape))
    if complaint := _unquoted(node, shape):
        raise Wrong(complaint)
    resolved = resolve(node.value)
    if resolved.problems:
        raise Wrong(*resolved.problems)
    if not resolved.text:
        raise Wrong("empty: write a text")
    if _CONTROL.search(resolved.text):
        raise Wrong("line breaks and control characters cannot stand here")
    return resolved


def _in_quotes(node: yaml.ScalarNode, shape: Shape) -> str:
    if shape.kind is Literal:
        return f"not one of the choices: write {_choices(shape)}"
    if shape.kind is Secret:
        return "YAML does not read this as text: write it in double quotes"
    return f"YAML does not read this as text: write {json.dumps(node.value)}"


def _text(resolved: Resolved, shape: Shape, directory: Path) -> Any:
    if shape.kind in _PARSED:
        return _parsed(resolved, shape, directory)
    if shape.kind is Secret:
        return Secret(resolved.text)
    if shape.kind is Literal and resolved.text not in shape.args:
        raise Wrong(f"not one of the choices: write {_choices(shape)}")
    rule = shape.rule(Text)
    complaint = rule.complaint(resolved.text) if rule else None
    if complaint:
        raise Wrong(complaint)
    masked = shape.rule(MaskedIfSubstituted)
    if resolved.substituted and masked:
        return masked.kind(resolved.text)
    return directory / resolved.text if shape.kind is Path else _absolute(resolved.text, shape.rule(PathBehind), directory)


def _absolute(text: str, behind: PathBehind | None, directory: Path) -> str:
    path = text.removeprefix(behind.opening) if behind and text.startswith(behind.opening) else ""
    return f"{behind.opening}{directory / path}" if behind and path else text


def _parsed(resolved: Resolved, shape: Shape, directory: Path) -> Any:
    try:
        value = shape.kind.parse(_absolute(resolved.text, shape.rule(PathBehind), directory))
    except ValueError as error:
        raise Wrong(
            f"not the right form after substitution: it must be {shape.kind.RIGHT}" if resolved.substituted else str(error)
        ) from None
    _in_bounds(value, shape, shape.kind)
    return value


def _in_bounds(value: Any, shape: Shape, written: Callable[[Any], Any]) -> None:
    bounds = shape.rule(Bounds)
    if bounds and not bounds.least <= value <= bounds.most:
        raise Wrong(f"out of bounds: write {written(bounds.least)} to {written(bounds.most)}")


def _choices(shape: Shape) -> str:
    return " or ".join(shape.args)
