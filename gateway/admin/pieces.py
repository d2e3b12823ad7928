"""What the sections of the status page are made of: a heading, marks that say how something is, and tables.

On a wide screen tables are rows and columns, on a phone one card a row, where each cell has its column's name before it. Their roles are
said though they are those of a table, since they are lost where a style sheet shows it in another way.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from gateway.admin.markup import Content, Markup, el

NUMBER: Final = "#"
"""Before the name of a column: it holds numbers, which stand to the right."""


Row = Sequence[Content]


class Group(NamedTuple):
    """Rows that belong together, below a heading of their own."""

    heading: Content
    rows: Iterable[Row]


def section(name: str, title: str, *content: Content) -> Markup:
    """Return a section with its heading; `name` is where links lead to."""
    return el("section", el("h2", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title")


def mark(level: str, text: Content) -> Markup:
    """Return a short text that is `ok`, `warn` or `bad`."""
    return el("span", text, class_=f"mark {level}")


def table(caption: str, columns: Sequence[str], rows: Iterable[Row], *, empty: str) -> Markup:
    """Return a table whose first column names each row, or the text `empty` where there is no row."""
    shown = [_row(columns, row) for row in rows]
    return _table(caption, columns, el("tbody", shown, role="rowgroup")) if shown else el("p", empty, class_="empty")


def grouped(caption: str, columns: Sequence[str], groups: Iterable[Group], *, empty: str) -> Markup:
    """Return a table with a heading above each group of rows, or the text `empty` where there is no group."""
    shown = [_group(columns, group) for group in groups]
    return _table(caption, columns, shown) if shown else el("p", empty, class_="empty")


def _table(caption: str, columns: Sequence[str], body: Content) -> Markup:
    heads = (el("th", _name(column), scope="col", role="columnheader", class_=_class(column)) for column in columns)
    return el("table", el("caption", caption), el("thead", el("tr", heads, role="row"), role="rowgroup"), body, role="table")


def _group(columns: Sequence[str], group: Group) -> Markup:
    heading = el("th", group.heading, scope="rowgroup", role="rowheader", colspan=len(columns))
    return el("tbody", el("tr", heading, role="row", class_="group"), (_row(columns, row) for row in group.rows), role="rowgroup")


def _row(columns: Sequence[str], row: Row) -> Markup:
    first, *others = row
    cells = (
        el("td", el("span", value), role="cell", class_=_class(column), data_label=_name(column))
        for column, value in zip(columns[1:], others, strict=True)
    )
    return el("tr", el("th", first, scope="row", role="rowheader"), cells, role="row")


def _name(column: str) -> str:
    return column.removeprefix(NUMBER)


def _class(column: str) -> str | None:
    return "n" if column.startswith(NUMBER) else None
