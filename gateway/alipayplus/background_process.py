"""The process that signs in the background: `python background_process.py FD`. It needs nothing else of the gateway.

Over that socket comes a private key in DER, and then a SHA-256 digest in each message, whose signature goes back. The process ends with the
socket: signals that go to all processes of a service mean nothing to it.
"""

import signal
import socket
import sys
from typing import Final

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_private_key

READY: Final = b"ready"
"""The answer to the key."""
_KEY_MAX: Final = 1 << 16  # bytes


def main(descriptor: int) -> None:
    """Sign what comes over the socket of this descriptor, to its end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as channel:
        key = load_der_private_key(channel.recv(_KEY_MAX), None, unsafe_skip_rsa_key_validation=True)  # whoever sends it has checked it
        assert isinstance(key, rsa.RSAPrivateKey)
        channel.send(READY)
        while digest := channel.recv(SHA256.digest_size):
            channel.send(key.sign(digest, padding.PKCS1v15(), Prehashed(SHA256())))


if __name__ == "__main__":
    main(int(sys.argv[1]))
