"""What the commands take from the command line: files and keys, with one clear line for what can't be used."""

import sys
from pathlib import Path

from gateway.alipayplus.keys import KeyFormatError, SigningKey, VerificationKey, load_private_key, load_public_key
from gateway.config import ConfigError

FAILED = 1
USAGE = 2
INVALID = 3
"""Exit codes (architecture, The operators' contract)."""


class UnusableInput(Exception):
    """A file or value given by the user can't be used; the text is the line to show."""


def refuse(error: object, code: int) -> int:
    """Show one line on standard error and return the exit code."""
    print(f"gateway: {error}", file=sys.stderr)
    return code


def refuse_configuration(error: ConfigError) -> int:
    """Show every fault, one a line, and return the exit code."""
    sys.stderr.writelines(f"{fault}\n" for fault in error.faults)
    return INVALID


def read(name: str) -> bytes:
    """Read a whole file, or standard input where the name is `-`. Raises UnusableInput."""
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UnusableInput(f"{name}: {error.strerror}") from error


def demand_utf8(text: str, option: str) -> None:
    """Raise UnusableInput for bytes of the command line that are not UTF-8, which Python keeps as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnusableInput(f"{option} is not UTF-8") from None


def signing_key(file: str, password_file: str | None, version: str) -> SigningKey:
    """Read a private key; the password is the first line of its file. Raises UnusableInput."""
    try:
        password = read(password_file).decode().partition("\n")[0].removesuffix("\r") if password_file else None
        return load_private_key(read(file), password, version)
    except UnicodeDecodeError:
        raise UnusableInput(f"{password_file}: not UTF-8") from None
    except KeyFormatError as error:
        raise UnusableInput(f"{file}: {error}") from error


def verification_key(file: str) -> VerificationKey:
    """Read a public key. Raises UnusableInput."""
    try:
        return load_public_key(read(file))
    except KeyFormatError as error:
        raise UnusableInput(f"{file}: {error}") from error


def public_half(file: str) -> VerificationKey:
    """Read our own key, as the public key or as the private one that it belongs to. Raises UnusableInput."""
    pem = read(file)
    try:
        return load_private_key(pem, None, "").public if b"PRIVATE KEY" in pem else load_public_key(pem)
    except KeyFormatError as error:
        raise UnusableInput(f"{file}: {error}") from error
