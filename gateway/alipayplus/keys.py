"""RSA keys: reading them from the forms in which people keep them, signing, verifying, and the ring that one partner needs.

Only PKCS#1 v1.5 with SHA-256, and only keys of 2048 bits or more (protocol section 3). No files are read here
(`gateway.alipayplus.keyring` does), and no byte of a key is in any error or repr.
"""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.alipayplus.signature import SignatureError, format_signature, parse_signature, string_to_sign

MINIMUM_BITS: Final = 2048
NEW_SIZES: Final = (MINIMUM_BITS, 3072, 4096)  # bits, of the keys that are made here
ANY_VERSION: Final = "*"
"""The version under which a ring holds the key for every version that it does not list."""

_PADDING: Final = padding.PKCS1v15()
_HASH: Final = SHA256()


class KeyFormatError(ValueError):
    """A key that can't be used. The text says what is wrong and is safe to print."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key. `fingerprint` is the SHA-256 of its SubjectPublicKeyInfo in DER, in lower-case hex without colons.

    The same value comes from `openssl pkey -pubin -in FILE -outform DER | sha256sum`.
    """

    fingerprint: str
    key: rsa.RSAPublicKey = field(repr=False, compare=False)

    @classmethod
    def of(cls, key: rsa.RSAPublicKey) -> "VerificationKey":
        """Wrap a key that is already loaded and checked."""
        return cls(hashlib.sha256(_public_der(key)).hexdigest(), key)

    @property
    def bits(self) -> int:
        """The size of the modulus."""
        return self.key.key_size

    def verify(self, data: bytes, signature: bytes) -> None:
        """Return when `signature` is this key's signature of `data`; else raise SignatureError."""
        try:
            self.key.verify(signature, data, _PADDING, _HASH)
        except InvalidSignature:
            raise SignatureError("the signature is wrong") from None

    def pem(self) -> bytes:
        """Give the key as a PEM SubjectPublicKeyInfo."""
        return self.key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def portal_text(self) -> str:
        """Give the key as the Alipay+ portal takes it: the DER SubjectPublicKeyInfo in base64 on one line, without armour."""
        return b64encode(_public_der(self.key)).decode("ascii")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and the version under which it signs: one value, so that the two can't be changed apart."""

    version: str
    public: VerificationKey
    _key: rsa.RSAPrivateKey = field(repr=False, compare=False)

    @classmethod
    def of(cls, key: rsa.RSAPrivateKey, version: str) -> "SigningKey":
        """Wrap a key that is already loaded and checked."""
        return cls(version, VerificationKey.of(key.public_key()), key)

    def sign(self, data: bytes) -> bytes:
        """Sign `data`. Takes 0.65 ms with 2048 bits and 4.5 ms with 4096; the GIL is released meanwhile."""
        return self._key.sign(data, _PADDING, _HASH)

    def numbers(self) -> rsa.RSAPrivateNumbers:
        """Give the private key's numbers: for another library that signs."""
        return self._key.private_numbers()

    def der(self) -> bytes:
        """Give the private key, unencrypted: for a process of our own that signs, too."""
        return self._key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@dataclass(frozen=True, slots=True)
class KeyRing:
    """What one partner signs and verifies with. `verification` holds Alipay+'s keys by version, `*` for all others."""

    client_id: str
    signing: SigningKey
    verification: Mapping[str, VerificationKey]

    def sign(self, uri: str, time: str, body: bytes) -> str:
        """Sign a request and give the value of its Signature header. `time` is its Request-Time, `body` its exact bytes."""
        return format_signature(self.signing.sign(string_to_sign(uri, self.client_id, time, body)), self.signing.version)

    def verify(self, uri: str, time: str, body: bytes, signature: str) -> None:
        """Return when `signature`, a Signature header's value, holds for an answer to `uri`; else raise SignatureError.

        `time` is the answer's Response-Time and `body` its exact bytes. The text is built with our own client id.
        """
        header = parse_signature(signature)
        key = self.verification.get(header.key_version) or self.verification.get(ANY_VERSION)
        if key is None:
            raise SignatureError("no public key is configured for the signature's key version")
        key.verify(string_to_sign(uri, self.client_id, time, body), header.signature)


def load_private_key(pem: bytes, password: str | None, version: str, *, is_checked: bool = False) -> SigningKey:
    """Read an RSA private key in PEM: PKCS#8 (also encrypted) or PKCS#1. Raises KeyFormatError.

    Its numbers are checked, which takes 50 ms, unless these very bytes have been `is_checked` before.
    """
    if b"PRIVATE KEY-----" not in pem:
        raise KeyFormatError(_not_a_private_key(pem))
    _demand_one(pem, b"PRIVATE KEY-----")
    try:
        key = _read(pem, password, is_checked=is_checked)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's own texts may quote the input, and differ between its versions.
        raise KeyFormatError(_why_unreadable(pem, password)) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise KeyFormatError("not an RSA key")
    _check_size(key.key_size)
    return SigningKey.of(key, version)


def private_key_bits(pem: bytes, password: str | None) -> int:
    """Return the size of a private key that `load_private_key` has read."""
    key = _read(pem, password, is_checked=True)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.key_size


def load_public_key(pem: bytes) -> VerificationKey:
    """Read an RSA public key: PEM (SubjectPublicKeyInfo or PKCS#1), or the portal's bare base64 of the DER. Raises KeyFormatError."""
    if b"PRIVATE KEY" in pem:
        raise KeyFormatError("a private key where a public key belongs")
    if b"CERTIFICATE" in pem:
        raise KeyFormatError("a certificate where a public key belongs (openssl x509 -pubkey -noout takes the key out of it)")
    _demand_one(pem, b"PUBLIC KEY-----")
    try:
        key = serialization.load_pem_public_key(pem) if b"-----BEGIN" in pem else serialization.load_der_public_key(_bare(pem))
    except (ValueError, UnsupportedAlgorithm):
        if _is_bare_private_key(pem):
            raise KeyFormatError("a private key where a public key belongs") from None
        raise KeyFormatError("not a public key (PEM, or base64 of the DER)") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise KeyFormatError("not an RSA key")
    _check_size(key.key_size)
    return VerificationKey.of(key)


def generate_private_key(bits: int = MINIMUM_BITS) -> rsa.RSAPrivateKey:
    """Make a new RSA key of `bits` bits with the exponent 65537."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def private_pem(key: rsa.RSAPrivateKey, password: str | None = None) -> bytes:
    """Give a private key as PEM PKCS#8, encrypted where there is a password."""
    encryption = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    """Give the public half of a private key as a PEM SubjectPublicKeyInfo."""
    return VerificationKey.of(key.public_key()).pem()


def _read(pem: bytes, password: str | None, *, is_checked: bool) -> PrivateKeyTypes:
    given = password.encode() if password is not None else None
    return serialization.load_pem_private_key(pem, given, unsafe_skip_rsa_key_validation=is_checked)


def _public_der(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _demand_one(pem: bytes, label: bytes) -> None:
    if pem.count(label) > 2:  # noqa: PLR2004  one begins a key, one ends it
        raise KeyFormatError("several keys in one file, of which only the first would be used: write each to a file of its own")


def _check_size(bits: int) -> None:
    if bits < MINIMUM_BITS:
        raise KeyFormatError(f"{bits} bits: at least {MINIMUM_BITS} are needed")


def _bare(text: bytes) -> bytes:
    return b64decode(b"".join(text.split()), validate=True)


def _is_bare_private_key(text: bytes) -> bool:
    try:
        serialization.load_der_private_key(_bare(text), None)
    except (ValueError, UnsupportedAlgorithm):
        return False
    except TypeError:  # an encrypted one
        return True
    return True


def _not_a_private_key(pem: bytes) -> str:
    if b"PUBLIC KEY-----" in pem:
        return "a public key where a private key belongs"
    if b"CERTIFICATE-----" in pem:
        return "a certificate where a private key belongs"
    if _is_bare_private_key(pem):
        return "a private key without its PEM lines (openssl pkey -inform DER writes it as PEM)"
    try:
        load_public_key(pem)
    except KeyFormatError:
        return "not a private key in PEM"
    return "a public key where a private key belongs"


def _why_unreadable(pem: bytes, password: str | None) -> str:
    is_encrypted = b"ENCRYPTED" in pem
    if is_encrypted and password is None:
        return "the key is encrypted and no password is configured"
    if is_encrypted:
        return "the key can't be decrypted: the password is wrong or the file is damaged"
    if password is not None:
        return "a password is configured and the key is not encrypted"
    return "the private key is damaged or of an unknown form"
