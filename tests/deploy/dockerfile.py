"""Reads a Dockerfile and takes its steps without an engine: RUN and COPY happen in a folder that stands for the image's root.

The base image is this machine with the Python that runs the tests. Absolute paths of the image are put below the folder; each stage is
made in a folder of the same name, so that what a stage left behind cannot be found by accident.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_APT_GET: Final = """#!/bin/sh -e
[ "$1" = download ] || exit 0
made=$(mktemp -d)
mkdir -p "$made/DEBIAN" "$made/usr/lib/$(uname -m)-linux-gnu"
printf 'Package: %s\\nVersion: 1\\nArchitecture: all\\nMaintainer: nobody\\nDescription: made by a test\\n' "$2" > "$made/DEBIAN/control"
touch "$made/usr/lib/$(uname -m)-linux-gnu/$(echo "$2" | sed 's/crypto-mb/crypto_mb.so./')"
dpkg-deb --root-owner-group --build "$made" "$2_1_all.deb"
"""
"""Stands for a distribution that has each package that a step downloads, with an empty file for a library."""
_SYSTEM: Final = ("bin", "dev", "etc", "lib", "proc", "tmp", "usr")


@dataclass(frozen=True)
class Instruction:
    """One instruction, continuation lines joined: `COPY`, and what stands behind it."""

    name: str
    text: str

    def words(self) -> list[str]:
        """Return what stands behind it, without options such as --from."""
        return [word for word in shlex.split(self.text) if not word.startswith("--")]

    def option(self, name: str) -> str | None:
        """Return the value of an option."""
        found = re.search(rf"--{name}=(\S+)", self.text)
        return found[1] if found else None


def instructions(text: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", lines)
    return [Instruction(*line.strip().split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def stages(steps: list[Instruction]) -> list[list[Instruction]]:
    """Return the instructions of each stage, its FROM first; what stands before the first one is left out."""
    starts = [index for index, step in enumerate(steps) if step.name == "FROM"]
    return [steps[start:end] for start, end in zip(starts, [*starts[1:], len(steps)], strict=True)]


def context(folder: Path) -> Iterator[Path]:
    """Give the files, relative to the folder, that its .dockerignore lets through."""
    patterns = [line for line in (folder / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    wanted = tuple(pattern[1:] for pattern in patterns if pattern.startswith("!"))
    for place, folders, files in os.walk(folder):
        here = Path(place).relative_to(folder)
        folders[:] = [name for name in folders if _leads_to(here / name, wanted)]
        yield from (here / name for name in files if _is_sent(here / name, patterns))


def _leads_to(folder: Path, wanted: tuple[str, ...]) -> bool:
    return any(folder.is_relative_to(name) or Path(name).is_relative_to(folder) for name in wanted)


def _is_sent(file: Path, patterns: list[str]) -> bool:
    sent = True
    for pattern in patterns:
        if any(_matches(part, pattern.removeprefix("!")) for part in (file, *file.parents)):
            sent = pattern.startswith("!")
    return sent


def _matches(path: Path, pattern: str) -> bool:
    expression = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return str(path) != "." and re.fullmatch(expression, str(path)) is not None


@dataclass
class Build:
    """Takes the steps of all stages; afterwards `root` holds what the last one added to its base, and `environment` its ENV."""

    folder: Path
    source: Path
    environment: dict[str, str] = field(default_factory=dict)
    _workdir: str = "/"
    _left: dict[str, Path] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The folder that stands for the root of the stage at hand."""
        return self.folder / "root"

    def place(self, path: str) -> Path:
        """Return where a path of the image is."""
        return self.root / os.path.join(self._workdir, path).lstrip("/")  # noqa: PTH118  an absolute path replaces the workdir

    def make(self, all_stages: list[list[Instruction]]) -> None:
        """Take all steps."""
        tools = self.folder / "tools"
        tools.mkdir()
        (tools / "apt-get").write_text(_APT_GET)
        (tools / "apt-get").chmod(0o755)
        for stage in all_stages:
            self.environment, self._workdir = {"PATH": f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin"}, "/"
            self.root.mkdir()
            for step in stage[1:]:
                self._take(step)
            if stage is not all_stages[-1]:
                name = stage[0].words()[-1]
                self._left[name] = self.root.rename(self.folder / name)

    def _take(self, step: Instruction) -> None:
        match step.name:
            case "ENV":
                self._set(step)
            case "WORKDIR":
                self._workdir = step.text
                self.place(".").mkdir(parents=True, exist_ok=True)
            case "RUN":
                self._run(step)
            case "COPY":
                self._copy(step)

    def _set(self, step: Instruction) -> None:
        for word in step.words():
            name, value = word.split("=", 1)
            self.environment[name] = self._mapped(value).replace("$PATH", self.environment["PATH"])

    def _run(self, step: Instruction) -> None:
        subprocess.run(["/bin/sh", "-ec", self._mapped(step.text)], cwd=self.place("."), env=self._with_settings(), check=True)

    def _with_settings(self) -> Mapping[str, str]:
        """Return the stage's environment, and how this machine reaches its package registry."""
        return {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HOME"))} | self.environment

    def _copy(self, step: Instruction) -> None:
        *sources, target = step.words()
        origin = self._left[stage] if (stage := step.option("from")) else self.source
        for source in sources:
            found, to = origin / source.strip("/"), self.place(target)
            if found.is_dir():
                shutil.copytree(found, to, symlinks=True, dirs_exist_ok=True)
            elif found.is_file():
                into = to / found.name if target.endswith("/") else to
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, into)

    def _mapped(self, text: str) -> str:
        return re.sub(rf"(?<![\w./*])/(?!(?:{'|'.join(_SYSTEM)})\b)(?=\w)", f"{self.root}/", text)
