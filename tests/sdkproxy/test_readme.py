"""The README's tables of result codes are those of the program."""

import re
from pathlib import Path
from typing import Final

from gateway.alipayplus.results import DOCUMENTED, Result
from gateway.errors import FAILURES
from gateway.sdkproxy.contract import http_status

README: Final = (Path(__file__).parents[2] / "README.md").read_text()
ROW: Final = re.compile(r"^\| (`[A-Z_]+`.*?) \| ([SFU]) \| ([\d, ]+) \|.*\|$", re.MULTILINE)


def test_every_code_stands_there_with_its_statuses() -> None:
    failures = {failure.code: (failure.result_status, failure.http_status) for failure in FAILURES.values()}
    results = {code: (status, http_status(Result(code, status))) for code, status in DOCUMENTED.items()}
    assert dict(rows()) == failures | results


def test_what_is_not_executed_and_may_be_tried_again_says_so() -> None:
    unavailable = {failure.code for failure in FAILURES.values() if failure.http_status == 503}
    assert unavailable == {code for row in ROW.finditer(README) if "`Retry-After`" in row[0] for code in codes(row[1])}


def rows() -> list[tuple[str, tuple[str, int]]]:
    """Give each code with its result status and HTTP status; one HTTP status stands for all codes of its row."""
    found = []
    for row in ROW.finditer(README):
        names, statuses = codes(row[1]), [int(status) for status in row[3].split(", ")]
        if len(statuses) == 1:
            statuses *= len(names)
        found += [(name, (row[2], status)) for name, status in zip(names, statuses, strict=True)]
    return found


def codes(cell: str) -> list[str]:
    """Give the codes of a cell."""
    return re.findall(r"`([A-Z_]{2,})`", cell)
