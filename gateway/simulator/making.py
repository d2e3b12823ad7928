"""Making the keys that a gateway configuration names and that are not there yet, for a gateway with simulated peers.

They are the gateway's own private keys, Alipay+'s public keys and the CA, the latter two with their private mates beside them, as
`gateway.simulator.playing` looks for them.
"""

from collections.abc import Iterator
from pathlib import Path

from gateway.alipayplus.keys import generate_private_key, private_pem, public_pem
from gateway.config import Alipayplus
from gateway.simulator.certificates import Authority
from gateway.simulator.keys import private_beside, write_private
from gateway.simulator.playing import CannotPlay


def make_missing(alipayplus: Alipayplus) -> tuple[Path, ...]:
    """Write the files that are missing; nothing that is there is changed. Returns them. Raises CannotPlay."""
    try:
        return tuple(_made(alipayplus))
    except OSError as error:
        raise CannotPlay(f"{error.filename}: {(error.strerror or 'cannot be written').lower()}") from error


def _made(alipayplus: Alipayplus) -> Iterator[Path]:
    for entry in alipayplus.signing.private_keys.values():
        if _is_missing(entry.file):
            if entry.password is not None:
                raise CannotPlay(f"{entry.file}: is missing, and encrypted keys are not made here")
            write_private(entry.file, private_pem(generate_private_key()))
            yield entry.file
    for public in alipayplus.verification.public_keys.values():
        if _is_pair_missing(public):
            key = generate_private_key()
            write_private(private_beside(public), private_pem(key))
            public.write_bytes(public_pem(key))
            yield public
    ca = alipayplus.tls.ca if alipayplus.tls else None
    if ca is not None and _is_pair_missing(ca):
        Authority.generate().write(ca)
        yield ca


def _is_pair_missing(public: Path) -> bool:
    missing, mate = _is_missing(public), private_beside(public)
    if missing and mate.exists():
        raise CannotPlay(f"{mate}: is there already, without {public.name}; remove it to have both made")
    return missing


def _is_missing(file: Path) -> bool:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return not file.exists()
