"""One configuration with the contents of all files that it names, read once and checked as it is going to be used.

All workers of a generation get the same edition. The rule of the active signing key stands here: what its file holds is taken again
only when that is asked for (SIGHUP); until then what it held before is kept, so that a key never changes under its version by itself.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from stat import S_ISFIFO
from typing import Final

from msgspec import structs

from gateway.alipayplus.keys import private_key_bits
from gateway.config import Config, ConfigError, Fault, PrivateKey, load
from gateway.config.draft import Unreadable, readable
from gateway.config.files import named_files
from gateway.config.loader import read_partly
from gateway.config.substitution import substituted_files
from gateway.server.copies import Contents, Copies, can_be_opened, content, read_files

Checks = tuple[Callable[[Config], Iterable[Fault]], ...]
Digests = Mapping[Path, bytes | None]
"""What stands in each file, for comparison; None where it cannot be read."""

_PIPE: Final = "the configuration is read again at each reload, which a pipe does not give: write a file"
_NO_PROC: Final = "/proc is not mounted here, and the gateway reads its copies of keys and certificates there: mount it"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The active signing key as an edition has it: its version, how its file is read, and what stood in it."""

    version: str
    entry: PrivateKey
    content: bytes = field(repr=False)

    @property
    def bits(self) -> int:
        """The size of the key."""
        password = self.entry.password
        return private_key_bits(self.content, password.reveal() if password else None)


@dataclass(frozen=True, slots=True)
class Edition:
    """A checked configuration, what stands in its files, and what is doubtful about it. `digests` are of what was read from disk."""

    file: Path
    config: Config
    contents: Contents = field(repr=False)
    digests: Digests = field(repr=False)
    warnings: tuple[Fault, ...] = ()

    @property
    def signing_key(self) -> SigningKey:
        """The active signing key."""
        signing = self.config.alipayplus.signing
        entry = signing.private_keys[signing.key_version]
        return SigningKey(signing.key_version, entry, self.contents[str(entry.file)])

    @property
    def holds_back_key(self) -> bool:
        """Whether the file of the active signing key held another one than is used when it was read."""
        return self.is_other_key(self.digests[self.signing_key.entry.file])

    def is_other_key(self, digest: bytes | None) -> bool:
        """Whether what stands in a file is another key than the active signing key."""
        return digest != _digest(self.signing_key.content)

    def pickled(self) -> bytes:
        """Return the configuration as it is sent to a worker."""
        return pickle.dumps(self.config)


def read_edition(file: Path, checks: Checks, *, kept: SigningKey | None = None) -> Edition:
    """Read and check a configuration with its files. Raises ConfigError with all faults.

    Where the same file is the active signing key under the same version as in `kept`, that key is used instead of what the file holds.
    """
    if _is_pipe(file):
        raise ConfigError([Fault((), _PIPE, file=file)])
    if not can_be_opened():
        raise ConfigError([Fault((), _NO_PROC, file=file)])
    found = digests([file, *_sources(file)])  # of before it is read: a change that comes meanwhile is not missed
    read: list[Edition] = []

    def check_all(config: Config) -> Iterator[Fault]:
        edition = _freeze(file, config, kept)
        read.append(edition)
        with Copies(edition.contents) as copies:
            copied = copies.apply(edition.config)
            for check in checks:
                yield from readable(check(copied))

    loaded = load(file, checks=(check_all,))
    [edition] = read
    return replace(edition, digests={**found, **edition.digests}, warnings=loaded.warnings)


def watched_files(file: Path) -> tuple[Path, ...]:
    """Return every file that decides what comes of a configuration: its own, those that it names, and those that texts are taken from.

    What is faulty in it is passed over: a file that is missing is to be noticed when it comes.
    """
    try:
        named = () if _is_pipe(file) else tuple(named_files(read_partly(file)).values())
    except ConfigError:
        named = ()
    return tuple(dict.fromkeys((file, *_sources(file), *named)))


def digests(files: Iterable[Path]) -> dict[Path, bytes | None]:
    """Look what stands in the files."""
    return {file: _digest(content(file)) for file in files}


def _sources(file: Path) -> tuple[Path, ...]:
    text = (content(file) or b"").decode(errors="replace")
    return substituted_files(text, file.absolute().parent)


def _is_pipe(file: Path) -> bool:
    """Whether to read the file could take for ever."""
    try:
        return S_ISFIFO(file.stat().st_mode)
    except OSError:
        return False


def _freeze(file: Path, config: Config, kept: SigningKey | None) -> Edition:
    named = tuple(named_files(config).values())
    contents = read_files(named)
    found = {path: _digest(contents.get(str(path))) for path in named}
    if kept is not None and _is_active(config, kept):
        contents[str(kept.entry.file)] = kept.content
        config = _with_entry(config, kept.version, kept.entry)
    return Edition(file, config, contents, found)


def _is_active(config: Config, key: SigningKey) -> bool:
    """Whether the same file is the active signing key under the same version, as far as that can be read."""
    with suppress(Unreadable):
        signing = config.alipayplus.signing
        entry = signing.private_keys.get(signing.key_version)
        return entry is not None and (signing.key_version, entry.file) == (key.version, key.entry.file)
    return False


def _with_entry(config: Config, version: str, entry: PrivateKey) -> Config:
    alipayplus = config.alipayplus
    signing = structs.replace(alipayplus.signing, private_keys={**alipayplus.signing.private_keys, version: entry})
    return structs.replace(config, alipayplus=structs.replace(alipayplus, signing=signing))


def _digest(data: bytes | None) -> bytes | None:
    return sha256(data).digest() if data is not None else None
