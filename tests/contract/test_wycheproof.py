"""Wycheproof's vectors of RSA PKCS#1 v1.5 with SHA-256: forged and damaged signatures of every known kind (faults C9)."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.alipayplus.keys import KeyFormatError, SigningKey, VerificationKey, load_private_key, load_public_key
from gateway.alipayplus.signature import SignatureError


def groups(corpora: Path, name: str) -> list[dict[str, Any]]:
    content = json.loads((corpora / "wycheproof" / "testvectors_v1" / name).read_bytes())
    return list(content["testGroups"])


def verifies(key: VerificationKey, data: bytes, signature: bytes) -> bool:
    try:
        key.verify(data, signature)
    except SignatureError:
        return False
    return True


@pytest.mark.parametrize("bits", [2048, 3072, 4096, 8192])
def test_C9_valid_signatures_verify_and_invalid_ones_do_not(corpora: Path, bits: int) -> None:
    tried = 0
    for group in groups(corpora, f"rsa_signature_{bits}_sha256_test.json"):
        key = load_public_key(group["publicKeyPem"].encode())
        for vector in group["tests"]:
            tried += 1
            holds = verifies(key, bytes.fromhex(vector["msg"]), bytes.fromhex(vector["sig"]))
            # The acceptable ones lack the NULL of the DigestInfo; to refuse them is right too.
            assert vector["result"] == "acceptable" or holds is (vector["result"] == "valid"), vector["comment"]
    assert tried > 200


def sha256_keys(corpora: Path) -> list[tuple[SigningKey, list[dict[str, Any]]]]:
    found = groups(corpora, "rsa_pkcs1_2048_sig_gen_test.json")
    return [(load_private_key(group["privateKeyPem"].encode(), None, "1"), group["tests"]) for group in found if group["sha"] == "SHA-256"]


def test_signatures_are_made_as_wycheproof_expects_them(corpora: Path) -> None:
    found = sha256_keys(corpora)
    assert found
    for key, vectors in found:
        for vector in vectors:
            assert key.sign(bytes.fromhex(vector["msg"])).hex() == vector["sig"], vector["comment"]


def test_E2_keys_of_1024_bits_are_refused(corpora: Path) -> None:
    for group in groups(corpora, "rsa_pkcs1_1024_sig_gen_test.json"):
        with pytest.raises(KeyFormatError, match="1024 bits"):
            load_private_key(group["privateKeyPem"].encode(), None, "1")
