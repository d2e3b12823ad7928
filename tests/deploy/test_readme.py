"""deploy/README.md: the files that it names are there, and its commands of the gateway are commands of the gateway."""

import re
import shlex
from typing import Final

import pytest

from gateway.cli import parser
from tests.deploy.watched import DEPLOY

TEXT: Final = (DEPLOY / "README.md").read_text()
COMMANDS: Final = sorted(set(re.findall(r"`(gateway [a-z][^`]*)`|^ {4}(?:kubectl .* -- )?(gateway [a-z][^#\n]*)", TEXT, re.MULTILINE)))
USED: Final = sorted({"".join(found).strip() for found in COMMANDS} - {"gateway check", "gateway keys rotate"})


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", TEXT)
    assert links
    assert all((DEPLOY / link).exists() for link in links)


def test_every_path_of_the_repository_is_there() -> None:
    paths = set(re.findall(r"\b(deploy/[\w./-]*\w)", TEXT))
    assert paths
    assert all((DEPLOY.parent / path).exists() for path in paths)
    for overlay in re.findall(r"`(overlays/\w+)`", TEXT):
        assert (DEPLOY / "kubernetes" / overlay / "kustomization.yaml").is_file()


@pytest.mark.parametrize("command", USED)
def test_every_command_is_one_of_the_gateways(command: str) -> None:
    assert parser().parse_args(shlex.split(command)[1:]).func
