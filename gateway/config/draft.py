"""A configuration with holes: so that the rules between keys can be tried although some keys are faulty.

In place of a value that could not be read stands INVALID. Whatever looks at it stops with Unreadable, and a rule that was stopped has
nothing to say. A draft never leaves the loader.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NoReturn

from gateway.config.faults import Fault


class Unreadable(Exception):
    """A rule looked at a value that could not be read."""


class _Invalid:
    """Cannot be used for anything but `is`."""

    __slots__ = ()

    def _stop(self, *_: object) -> NoReturn:
        raise Unreadable

    __getattr__ = __eq__ = __hash__ = __bool__ = __str__ = __repr__ = _stop
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __float__ = __int__ = _stop
    __iter__ = __len__ = __contains__ = __getitem__ = _stop


INVALID: Final[Any] = _Invalid()


def readable(faults: Iterable[Fault]) -> Iterator[Fault]:
    """Give what a rule finds, or a part of one that others follow, as far as it can be told from what could be read."""
    try:
        yield from faults
    except Unreadable:
        return


def is_whole(value: object) -> bool:
    """Whether all of a value could be read."""
    try:
        repr(value)  # looks at all that there is
    except Unreadable:
        return False
    return True
