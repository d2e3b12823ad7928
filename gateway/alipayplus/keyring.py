"""The key files of the configuration: every fault of them at once (faults E2), and the ring that they make.

The only part of the protocol that reads files. What a usable key is, `gateway.alipayplus.keys` says; whether `key_version` names a
key and who may read the files, `gateway.config` checks.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from gateway.alipayplus.keys import KeyFormatError, KeyRing, SigningKey, VerificationKey, load_private_key, load_public_key
from gateway.config.draft import readable
from gateway.config.faults import Fault, KeyPath
from gateway.config.model import Alipayplus, Config, PrivateKey

Key = TypeVar("Key", SigningKey, VerificationKey)

MAX_FILE: Final = 64 * 1024
"""Bytes. No key is larger; a device or a log file named by mistake is not read to its end."""

_PRIVATE_KEYS: Final = ("alipayplus", "signing", "private_keys")
_PUBLIC_KEYS: Final = ("alipayplus", "verification", "public_keys")


def check_keys(config: Config) -> Iterator[Fault]:
    """Read every key file and yield what is wrong with it, with the path of its key in the configuration. Changes nothing."""
    ours: dict[str, SigningKey] = {}
    theirs: dict[str, VerificationKey] = {}
    yield from readable(_private_keys(config, ours))
    yield from readable(_public_keys(config, theirs))
    yield from _own_keys(ours, theirs)


def load_key_ring(config: Alipayplus) -> KeyRing:
    """Read the signing key in use and all public keys, which `check_keys` has checked. Raises KeyFormatError, OSError."""
    version = config.signing.key_version
    signing = read_signing_key(config.signing.private_keys[version], version, is_checked=True)
    public_keys = {name: read_verification_key(file) for name, file in config.verification.public_keys.items()}
    return KeyRing(config.client_id, signing, public_keys)


def read_signing_key(entry: PrivateKey, version: str, *, is_checked: bool = False) -> SigningKey:
    """Read one of our private keys; its numbers are not checked if that was done before. Raises KeyFormatError, OSError."""
    return load_private_key(_read(entry.file), entry.password.reveal() if entry.password else None, version, is_checked=is_checked)


def read_verification_key(file: Path) -> VerificationKey:
    """Read a public key. Raises KeyFormatError, OSError."""
    return load_public_key(_read(file))


def _read(file: Path) -> bytes:
    if "\0" in str(file):
        raise KeyFormatError("not the path of a file")
    if file.exists() and not file.is_file():
        raise KeyFormatError("not a regular file")  # a pipe could block for ever
    with file.open("rb") as stream:
        content = stream.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise KeyFormatError("the file is too large for a key")
    return content


def _private_keys(config: Config, ours: dict[str, SigningKey]) -> Iterator[Fault]:
    for version, entry in config.alipayplus.signing.private_keys.items():
        yield from readable(_attempt(ours, version, (*_PRIVATE_KEYS, version), partial(read_signing_key, entry, version)))


def _public_keys(config: Config, theirs: dict[str, VerificationKey]) -> Iterator[Fault]:
    for version, file in config.alipayplus.verification.public_keys.items():
        yield from readable(_attempt(theirs, version, (*_PUBLIC_KEYS, version), partial(read_verification_key, file)))


def _attempt(keys: dict[str, Key], version: str, path: KeyPath, read: Callable[[], Key]) -> Iterator[Fault]:
    try:
        keys[version] = read()
    except KeyFormatError as error:
        yield Fault(path, str(error))
    except OSError as error:
        yield Fault(path, f"the file can't be read: {error.strerror}")


def _own_keys(ours: dict[str, SigningKey], theirs: dict[str, VerificationKey]) -> Iterator[Fault]:
    """Find our own keys where Alipay+'s belong: the most common mistake in public threads (protocol section 3)."""
    versions = {key.public.fingerprint: version for version, key in ours.items()}
    for version, key in theirs.items():
        if key.fingerprint in versions:
            mate = versions[key.fingerprint]
            yield Fault((*_PUBLIC_KEYS, version), f"this is our own key (private key {mate!r}): the public key of Alipay+ belongs here")
