"""The RSA keys that a gateway and a simulated Alipay+ need, and the files in which they lie."""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.alipayplus.keys import generate_private_key, private_pem, public_pem

PRIVATE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Keys:
    """`mpp` is the gateway's own, `alipayplus` that of Alipay+, `stranger` one that neither of the two knows."""

    mpp: rsa.RSAPrivateKey = field(repr=False)
    alipayplus: rsa.RSAPrivateKey = field(repr=False)
    stranger: rsa.RSAPrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> "Keys":
        """Make new keys; takes some tenths of a second."""
        return cls(generate_private_key(), generate_private_key(), generate_private_key())

    def write(self, directory: Path) -> None:
        """Write `mpp-1.pem`, `alipayplus-1.pem` (public) and `alipayplus-1.private.pem`."""
        write_private(directory / "mpp-1.pem", private_pem(self.mpp))
        public = directory / "alipayplus-1.pem"
        public.write_bytes(public_pem(self.alipayplus))
        write_private(private_beside(public), private_pem(self.alipayplus))


def private_beside(public: Path) -> Path:
    """Give where the private mate of a public file of the simulator lies: `NAME.private.pem` beside `NAME.pem`."""
    return public.with_name(f"{public.stem}.private.pem")


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read."""
    path.touch(mode=PRIVATE_MODE)
    path.chmod(PRIVATE_MODE)
    path.write_bytes(content)
