"""HTML out of values: what is not markup itself is escaped, so that no value can become markup by being forgotten.

There are no templates: the page is made of nested calls, and each of its pieces is a value.
"""

from collections.abc import Iterable
from html import escape
from typing import Final

_VOID: Final = frozenset({"meta", "link"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = Markup | str | int | None | Iterable["Content"]
"""What an element may hold: markup, text, which is escaped, nothing, or several of them."""


def el(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Markup:
    """Return an element. Attributes that are None or False are left out, True ones have no value.

    In their names a `_` at the end is cut off, and any other is written as `-`: `class_`, `aria_label`.
    """
    begin = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Markup(begin if name in _VOID else f"{begin}{''.join(map(text, content))}</{name}>")


def text(content: Content) -> Markup:
    """Return content as HTML."""
    if isinstance(content, Markup):
        return content
    if content is None:
        return Markup("")
    if isinstance(content, str | int):
        return Markup(escape(str(content)))
    return Markup("".join(map(text, content)))


def _attribute(key: str, value: str | float | bool | None) -> str:  # noqa: FBT001  an attribute that is there or not
    if value is None or value is False:
        return ""
    name = key.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
