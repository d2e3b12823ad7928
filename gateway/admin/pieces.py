"""What the sections of the status page are made of beside tables: a section with its heading, a mark that says how something is."""

from gateway.admin.markup import Content, Markup, el


def section(name: str, title: str, *content: Content) -> Markup:
    """Return a section with its heading; `name` is where links lead to."""
    return el("section", el("h2", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title")


def mark(level: str, text: Content) -> Markup:
    """Return a short text that is `ok`, `warn` or `bad`."""
    return el("span", text, class_=f"mark {level}")
