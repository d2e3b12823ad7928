"""The model as data: which keys a section has, of which type, under which rules. Loader, JSON Schema and printout all follow it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from gateway.config.rules import Doc

Rule = TypeVar("Rule")


@dataclass(frozen=True, slots=True)
class Shape:
    """A key's type: `kind` is a class, or Literal, tuple or Mapping with `args`; `rules` are what the model attached."""

    kind: Any
    args: tuple[Any, ...] = ()
    rules: tuple[object, ...] = ()
    optional: bool = False

    def rule(self, kind: type[Rule]) -> Rule | None:
        """Find the rule of this kind, if there is one."""
        return next((rule for rule in self.rules if isinstance(rule, kind)), None)

    def has(self, kind: type) -> bool:
        """Tell whether a rule of this kind is there."""
        return any(isinstance(rule, kind) for rule in self.rules)

    @property
    def is_section(self) -> bool:
        """Whether it is a section with keys of its own."""
        return isinstance(self.kind, type) and issubclass(self.kind, Struct)

    @property
    def is_mapping(self) -> bool:
        """Whether it has keys that the operator names."""
        return self.kind is Mapping

    @property
    def is_container(self) -> bool:
        """Whether it is written as keys below its own."""
        return self.is_section or self.is_mapping


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section; `default` means nothing where it is required."""

    name: str
    shape: Shape
    required: bool
    default: Any

    @property
    def meaning(self) -> str:
        """What the key means, for operators."""
        doc = self.shape.rule(Doc)
        return doc.text if doc else ""


@cache
def keys_of(section: type[Struct]) -> tuple[Key, ...]:
    """Give the keys of a section in the order of the model."""
    return tuple(_keys(section))


def shape_of(annotation: Any) -> Shape:
    """Read a type of the model: Annotated, unions with None, and what they hold."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = shape_of(args[0])
        return Shape(inner.kind, inner.args, inner.rules + args[1:], inner.optional)
    if origin in {Union, UnionType}:
        inner = shape_of(next(arg for arg in args if arg is not NoneType))
        return Shape(inner.kind, inner.args, inner.rules, optional=True)
    return Shape(origin or annotation, args)


def _keys(section: type[Struct]) -> Iterator[Key]:
    for field in fields(section):
        default = field.default if field.default_factory is NODEFAULT else field.default_factory()
        yield Key(field.encode_name, shape_of(field.type), field.required, default)
