"""The rules of deploy/prometheus as a resource of the Prometheus operator; `make fix` writes what this prints.

Kustomize reads no files from outside its folders, so that the rules stand there a second time.
"""

import sys
from pathlib import Path
from textwrap import indent
from typing import Final

RULES: Final = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules"
HEAD: Final = """\
# The rules of deploy/prometheus/rules, written by `make fix`: change them there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: gateway
spec:
  groups:
"""


def resource() -> str:
    """Return the resource, with the rules' own text and comments."""
    return HEAD + "\n".join(indent(_groups(file), "  ") for file in sorted(RULES.glob("*.yml")))


def _groups(file: Path) -> str:
    _, groups = file.read_text().split("\ngroups:\n")
    return groups


if __name__ == "__main__":
    sys.stdout.write(resource())
