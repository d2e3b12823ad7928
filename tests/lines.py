"""An access log in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct, to_builtins


@dataclass
class Lines:
    """Access lines kept in memory."""

    access_enabled: bool = True
    lines: list[dict[str, Any]] = field(default_factory=list)

    def access(self, lines: Sequence[Struct]) -> None:
        self.lines.extend(map(to_builtins, lines))
