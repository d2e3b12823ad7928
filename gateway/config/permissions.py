"""Who else on this machine may read our private keys: a look at the modes of the files, never at their content."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.config.faults import Fault, KeyPath
from gateway.config.files import named_files
from gateway.config.model import Config

_SIGNING: Final[KeyPath] = ("alipayplus", "signing", "private_keys")


def check_permissions(config: Config) -> Iterator[Fault]:
    """Warn of private keys that others may read. Files that are not there are others' to report.

    A file that belongs to somebody else and to our group is meant to be read through the group: so Kubernetes gives out secrets. Those of
    systemd are for us by an access control list, which shows as bits of the group.
    """
    for path, file in _private_keys(config):
        try:
            found = file.stat()
        except (OSError, ValueError):
            continue
        mode = found.st_mode
        if stat.S_ISREG(mode) and mode & (
            stat.S_IROTH if _is_given_to_our_group(found) or _is_credential(file) else stat.S_IRGRP | stat.S_IROTH
        ):
            yield Fault(path, f"others than the owner may read this private key (mode {stat.S_IMODE(mode):04o}): chmod 0600", warning=True)


def _is_given_to_our_group(found: os.stat_result) -> bool:
    return found.st_uid != os.geteuid() and found.st_gid in {os.getegid(), *os.getgroups()}


def _is_credential(file: Path) -> bool:
    """Tell whether a file is one of systemd's credentials for this service (systemd.exec(5))."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(directory) and file.is_relative_to(str(directory))


def _private_keys(config: Config) -> Iterator[tuple[KeyPath, Path]]:
    for path, file in named_files(config).items():
        if path[: len(_SIGNING)] == _SIGNING:
            yield path[: len(_SIGNING) + 1], file  # of a key with a password, too
        elif path[-2:] == ("tls", "private_key"):
            yield path, file
