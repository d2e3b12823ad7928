"""Keys for the tests of the protocol, made once a run: making one takes a tenth of a second and more."""

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.alipayplus.keys import KeyRing, SigningKey, generate_private_key

CLIENT_ID = "T_000000000000000001"


@pytest.fixture(scope="session")
def rsa_keys() -> tuple[rsa.RSAPrivateKey, rsa.RSAPrivateKey]:
    """Two key pairs: ours and Alipay+'s."""
    return generate_private_key(), generate_private_key()


@pytest.fixture(scope="session")
def ours(rsa_keys: tuple[rsa.RSAPrivateKey, rsa.RSAPrivateKey]) -> SigningKey:
    return SigningKey.of(rsa_keys[0], "1")


@pytest.fixture(scope="session")
def theirs(rsa_keys: tuple[rsa.RSAPrivateKey, rsa.RSAPrivateKey]) -> SigningKey:
    return SigningKey.of(rsa_keys[1], "7")


@pytest.fixture
def ring(ours: SigningKey, theirs: SigningKey) -> KeyRing:
    """The ring of the partner."""
    return KeyRing(CLIENT_ID, ours, {"7": theirs.public})


@pytest.fixture
def their_ring(ours: SigningKey, theirs: SigningKey) -> KeyRing:
    """The ring with which Alipay+ signs answers to this partner, and verifies its requests."""
    return KeyRing(CLIENT_ID, theirs, {"1": ours.public})
