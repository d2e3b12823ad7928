"""The cgroups that this process belongs to, with those around each of them (cgroups(7), versions 1 and 2)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

ROOT: Final = Path("/")


class Cgroup(Struct, frozen=True):
    """A folder with the files of one cgroup; `version` says which files these are."""

    folder: Path
    version: int

    def read(self, name: str) -> str:
        """Return what stands in a file; nothing if it is not there."""
        return _read(self.folder / name)


def cgroups(controller: str, root: Path = ROOT) -> Iterator[Cgroup]:
    """Give each cgroup that may limit what `controller` counts, the innermost first."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if number == "0":
            yield from (Cgroup(folder, 2) for folder in _around(root / "sys/fs/cgroup", name))
        elif controller in controllers.split(","):
            for mount in dict.fromkeys((controllers, controller)):
                yield from (Cgroup(folder, 1) for folder in _around(root / "sys/fs/cgroup" / mount, name))


def _around(mount: Path, name: str) -> Iterator[Path]:
    """Give the folder of a cgroup and of those around it; inside a container only the outermost may be there."""
    folder = mount / name.strip("/")
    yield folder
    yield from (parent for parent in folder.parents if parent.is_relative_to(mount))


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, ValueError):
        return ""
