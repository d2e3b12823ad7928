"""What the garbage collector is not told of (`gc=False`) holds plain values only: what refers back to it would never be let go."""

from collections.abc import Iterator
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from aiohttp import HttpVersion
from msgspec import Raw, Struct

import gateway.server.supervisor
import gateway.server.worker  # noqa: F401  each imports all that its process consists of

PLAIN = (str, bytes, int, float, bool, NoneType, Raw, HttpVersion)


def hidden(kind: type[Struct] = Struct) -> Iterator[type[Struct]]:
    """Yield the structs of the gateway that the collector is not told of."""
    for each in kind.__subclasses__():
        if each.__module__.startswith("gateway.") and not each.__struct_config__.gc:
            yield each
        yield from hidden(each)


def is_plain(kind: Any) -> bool:
    """Tell whether values of this type refer to nothing but plain values."""
    if get_origin(kind) is Literal:
        return True
    if get_origin(kind) is not None:
        return all(is_plain(part) for part in get_args(kind) if part is not ...)
    return kind in PLAIN or (issubclass(kind, Struct) and not kind.__struct_config__.gc)


@pytest.mark.parametrize("kind", [*hidden()])
def test_what_is_hidden_from_the_collector_is_plain(kind: type[Struct]) -> None:
    assert [name for name, each in get_type_hints(kind).items() if not is_plain(each)] == []
