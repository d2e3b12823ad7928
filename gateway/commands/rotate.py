"""`gateway keys rotate`: the next key pair beside the one in use, and what is left for people to do.

Nothing that is there is changed: a running gateway goes on with its key. That key and version change together, the configuration sees to
(`signing.key_version`); when, the operator says, since only they know when Alipay+ holds the new public key.
"""

import argparse
import os
import re
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.alipayplus.keyring import read_signing_key
from gateway.alipayplus.keys import NEW_SIZES, KeyFormatError, KeyRing, SigningKey, VerificationKey, generate_private_key, private_pem
from gateway.alipayplus.signature import SignatureError
from gateway.commands.input import FAILED, USAGE, UnusableInput, refuse, refuse_configuration
from gateway.config import Config, ConfigError, PrivateKey, Secret, load

_SAMPLE: Final = ("/rotation/check", "2026-01-01T00:00:00Z", b"{}")
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ENCRYPTED: Final = '{{file: {file}, password: "..."}}   # the password as it is written for version {version}'

_EXISTS: Final = "exists already and is not overwritten: go on with what was said when it was made, or name another --version"
_BY_ITSELF: Final = "    # a running gateway takes it up by itself: wait for its log to say reloaded"
_REPORT: Final = """\
{private}
    The next private key (RSA, {bits} bits{encrypted}). Keep it secret; the gateway reads it.
{public}
    Its public key.
{portal}
    Its public key in the form that the Alipay+ portal takes (base64 of the DER, one line).
Fingerprint (SHA-256): {fingerprint}

Checked: version {old} (active) signs and verifies; version {new} (next) signs and verifies.

Nothing has changed yet. Next:
  1. Give the line in {portal} to Alipay+, as key version {new}. If the portal gives it another version, use that one below.
  2. Put the new key beside the present one, which still signs:
       alipayplus:
         signing:
           key_version: {old}
           private_keys:
             {old}: ...   # as it is
             {new}: {entry}
     {take_up}
  3. When Alipay+ holds version {new}, switch to it and reload again:
           key_version: {new}
  4. Until the log says "a former generation has ended", requests may still be signed with version {old}: Alipay+ must know both.
     After that take {old} out of private_keys, reload, have Alipay+ forget it, and destroy its file.
To go back at any time before step 4, set key_version to {old} and reload.
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of one key pair, in the order private, public, the portal's form."""

    private: Path
    public: Path
    portal: Path

    @classmethod
    def beside(cls, directory: Path, version: str) -> "Pair":
        """Name the files of a version."""
        return cls(*(directory / f"mpp-{version}-{name}" for name in ("private.pem", "public.pem", "public.txt")))

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """The three files."""
        return self.private, self.public, self.portal

    def write(self, private: bytes, mate: VerificationKey, present: os.stat_result | None = None) -> None:
        """Write new files; one that is there, also a dangling link, is never overwritten. Raises OSError, and then none is left.

        The private key is for this user, or for those who may read the `present` one, its owner and perhaps its group, as far as this user
        may say so.
        """
        written: list[Path] = []
        contents = ((private, 0o600), (mate.pem(), 0o644), (f"{mate.portal_text()}\n".encode(), 0o644))
        try:
            for file, (content, bits) in zip(self.files, contents, strict=True):
                descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, bits)
                written.append(file)
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(content)
            if present is not None:
                with suppress(PermissionError):
                    os.chown(self.private, present.st_uid, present.st_gid)
                    self.private.chmod(0o600 | present.st_mode & stat.S_IRGRP)
        except OSError:
            for file in written:
                file.unlink()
            raise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `keys rotate` takes."""
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, required=True, help="the configuration file")
    parser.add_argument("--version", metavar="VERSION", help="the new key's version (default: one more than the highest)")
    parser.add_argument("--bits", type=int, choices=NEW_SIZES, default=NEW_SIZES[0], help="the new key's size (default: %(default)s)")
    parser.add_argument("--directory", metavar="DIR", type=Path, help="where the files go (default: where the active key is)")
    parser.set_defaults(func=rotate)


def rotate(args: argparse.Namespace) -> int:
    """Make the next key pair, prove that both keys work, and say what to do: 1 if files stand in the way, 3 for a faulty configuration."""
    try:
        config = load(args.config).config
        return _prepare(config, args, _version(config, args.version))
    except ConfigError as error:
        return refuse_configuration(error)
    except UnusableInput as error:
        return refuse(error, USAGE)
    except KeyFormatError as error:
        return refuse(f"the active key: {error}", FAILED)
    except OSError as error:
        reason = _EXISTS if isinstance(error, FileExistsError) else f"can't be used: {error.strerror}"
        return refuse(f"{error.filename or _directory(config, args)} {reason}", FAILED)  # of a full disk no file is told


def _version(config: Config, asked: str | None) -> str:
    """Choose the new version. Raises UnusableInput."""
    present = config.alipayplus.signing.private_keys
    if asked is None and not all(version.isascii() and version.isdigit() for version in present):
        raise UnusableInput("the versions in use are not numbers: name the new one with --version")
    version = asked if asked is not None else str(max(map(int, present)) + 1)
    if version in present:
        raise UnusableInput(f"version {_quoted(version)} is in the configuration already: name another one with --version")
    if not _FILE_NAME.fullmatch(version):
        raise UnusableInput("--version: up to 64 letters, digits, `.`, `_` and `-`, since files are named after it")
    return version


def _prepare(config: Config, args: argparse.Namespace, version: str) -> int:
    signing = config.alipayplus.signing
    active = signing.private_keys[signing.key_version]
    present = read_signing_key(active, signing.key_version)
    pair = Pair.beside(_directory(config, args), version)
    key = generate_private_key(args.bits)
    password = active.password.reveal() if active.password else None
    pair.write(private_pem(key, password), VerificationKey.of(key.public_key()), active.file.stat())
    following = read_signing_key(PrivateKey(file=pair.private, password=Secret(password) if password else None), version)
    for each in (present, following):
        _prove(each, config.alipayplus.client_id)
    has_pid_file = config.server.pid_file is not None
    report = _report(args.config, pair, following, signing.key_version, encrypted=password is not None, has_pid_file=has_pid_file)
    sys.stdout.write(report)
    return 0


def _directory(config: Config, args: argparse.Namespace) -> Path:
    signing = config.alipayplus.signing
    directory: Path = args.directory or signing.private_keys[signing.key_version].file.parent
    return directory.absolute()


def _prove(key: SigningKey, client_id: str) -> None:
    """Sign and verify one message as the gateway and Alipay+ do. Raises KeyFormatError."""
    uri, time, body = _SAMPLE
    ring = KeyRing(client_id, key, {key.version: key.public})
    try:
        ring.verify(uri, time, body, ring.sign(uri, time, body))
    except SignatureError as error:
        raise KeyFormatError(f"what version {key.version} signs does not verify") from error


def _report(config: Path, pair: Pair, following: SigningKey, present: str, *, encrypted: bool, has_pid_file: bool) -> str:
    file = _as_written(pair.private, config)
    entry = _ENCRYPTED.format(file=file, version=_quoted(present)) if encrypted else file
    return _REPORT.format(
        private=pair.private,
        public=pair.public,
        portal=pair.portal,
        bits=following.public.bits,
        encrypted=", with the password of the present one" if encrypted else "",
        fingerprint=following.public.fingerprint,
        old=_quoted(present),
        new=_quoted(following.version),
        entry=entry,
        take_up=f"gateway check -c {config}{f' && gateway reload -c {config}' if has_pid_file else _BY_ITSELF}",
    )


def _as_written(file: Path, config: Path) -> str:
    """Give the path as the configuration takes it: relative to it where the file is below it."""
    folder = config.absolute().parent
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


def _quoted(version: str) -> str:
    return f'"{version}"'
