import datetime as dt
import os
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

from gateway.config import Fault, Tls
from gateway.upstream.tls import MAX_FILE, certificates_in, check, client_context
from tests.upstream.certificates import VERSION_2, VERSION_3, Authority, Pair, spoiled, weak_pair

PATH = ("session", "forward", "tls")


def faults(tls: Tls) -> list[tuple[str, str, bool]]:
    found = list(check(tls, PATH))
    assert all(isinstance(fault, Fault) and fault.path[:-1] == PATH for fault in found)
    return [(str(fault.path[-1]), fault.message, fault.warning) for fault in found]


def tls_of(authority: Authority, pair: Pair) -> Tls:
    return Tls(ca=authority.ca, certificate=pair.certificate, private_key=pair.private_key)


def test_good_files_have_no_faults(authority: Authority) -> None:
    assert faults(tls_of(authority, authority.issue("good", days=90))) == []
    assert faults(Tls()) == []


def test_a_context_verifies_chain_and_name_and_nothing_old(authority: Authority, server_pair: Pair) -> None:
    for context in (client_context(None), client_context(Tls()), client_context(tls_of(authority, server_pair))):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(client_context(Tls(ca=authority.ca)).get_ca_certs()) == 1


def test_chains_are_judged_alike_under_every_python(authority: Authority) -> None:
    for context in (client_context(None), client_context(Tls(ca=authority.ca))):
        assert context.verify_flags == ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN


def test_E1_missing_files_are_faults_with_their_keys(tmp_path: Path) -> None:
    tls = Tls(ca=tmp_path / "ca", certificate=tmp_path / "crt", private_key=tmp_path / "key")
    missing = "cannot be read: No such file or directory"
    assert faults(tls) == [("ca", missing, False), ("certificate", missing, False), ("private_key", missing, False)]


def test_E1_what_is_no_file_of_a_size_to_be_read_is_a_fault(tmp_path: Path) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.write_bytes(b"x" * (MAX_FILE + 1))
    assert faults(Tls(ca=pipe, certificate=tmp_path, private_key=large)) == [
        ("ca", "cannot be read: not a regular file", False),
        ("certificate", "cannot be read: not a regular file", False),
        ("private_key", "cannot be read: too large for certificates and keys", False),
    ]
    assert faults(Tls(ca=Path("/dev/zero"))) == [("ca", "cannot be read: not a regular file", False)]


def test_E1_files_that_hold_something_else_are_faults(tmp_path: Path, server_pair: Pair) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n")
    found = faults(Tls(ca=junk, certificate=server_pair.private_key, private_key=server_pair.certificate))
    assert [fault[0] for fault in found] == ["ca", "certificate", "private_key"]
    assert "canary" not in str(found)


@pytest.mark.parametrize("how", ["cut-off", "indented"])
def test_E1_a_bundle_that_openssl_does_not_take_is_a_fault(tmp_path: Path, authority: Authority, how: str) -> None:
    tls, pem = Tls(ca=tmp_path / "bundle.pem"), authority.ca.read_bytes()
    (tmp_path / "bundle.pem").write_bytes(pem + pem[:200] if how == "cut-off" else pem.replace(b"\n", b"\n "))
    with pytest.raises(OSError):
        client_context(tls)
    [(key, message, is_warning)] = faults(tls)
    assert (key, is_warning) == ("ca", False)
    assert message.startswith("OpenSSL takes it not: ")


def test_E1_a_client_certificate_that_openssl_does_not_take_is_a_fault(tmp_path: Path) -> None:
    weak = weak_pair(tmp_path)
    tls = Tls(certificate=weak.certificate, private_key=weak.private_key)
    with pytest.raises(OSError):
        client_context(tls)
    assert faults(tls) == [("certificate", "OpenSSL takes it not: EE_KEY_TOO_SMALL", False)]


def test_E1_a_certificate_of_an_unknown_version_is_a_fault(tmp_path: Path, authority: Authority) -> None:
    unknown = ssl.DER_cert_to_PEM_cert(spoiled(authority.ca, VERSION_3, VERSION_2))
    (tmp_path / "bundle.pem").write_text(authority.ca.read_text() + unknown)
    assert faults(Tls(ca=tmp_path / "bundle.pem")) == [("ca", "holds a certificate of an unknown version", False)]


def test_a_bundle_may_hold_a_certificate_with_a_serial_number_below_zero(tmp_path: Path, authority: Authority) -> None:
    """As those of systems do. It is read without a word."""
    [certificate] = certificates_in(authority.ca.read_bytes())
    serial = certificate.serial_number.to_bytes(32).lstrip(b"\0")
    (tmp_path / "odd.pem").write_text(ssl.DER_cert_to_PEM_cert(spoiled(authority.ca, serial, b"\x80" + serial[1:])))
    assert len(certificates_in((tmp_path / "odd.pem").read_bytes())) == 1
    assert faults(Tls(ca=tmp_path / "odd.pem")) == []


def test_E1_a_certificate_for_an_unknown_kind_of_key_is_that_of_no_private_key(tmp_path: Path, server_pair: Pair) -> None:
    usual, unknown = (bytes.fromhex(f"2a8648ce3d0301{number}") for number in ("07", "06"))  # curves: P-256, and one that nobody uses
    (tmp_path / "unknown.crt").write_text(ssl.DER_cert_to_PEM_cert(spoiled(server_pair.certificate, usual, unknown)))
    tls = Tls(certificate=tmp_path / "unknown.crt", private_key=server_pair.private_key)
    assert faults(tls) == [("private_key", "this is not the private key of the certificate", False)]


def test_certificate_and_private_key_belong_together(authority: Authority, server_pair: Pair) -> None:
    other = authority.issue("other-key", days=90)
    tls = Tls(certificate=other.certificate, private_key=server_pair.private_key)
    assert faults(tls) == [("private_key", "this is not the private key of the certificate", False)]


def test_a_private_key_with_a_password_can_not_be_used(tmp_path: Path, server_pair: Pair) -> None:
    key = load_pem_private_key(server_pair.private_key.read_bytes(), None)
    file = tmp_path / "encrypted.key"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary")))
    tls = Tls(certificate=server_pair.certificate, private_key=file)
    assert [(key, message) for key, message, _ in faults(tls)] == [("private_key", "is encrypted; a key without a password is needed here")]
    with pytest.raises(OSError):
        client_context(tls)


@pytest.mark.parametrize(
    ("days", "since", "start", "warning"),
    [
        pytest.param(-1, 90, "expired on", False, id="E7-expired"),
        pytest.param(29, 90, "expires on", True, id="E7-expires-soon"),
        pytest.param(90, -1, "not valid before", False, id="E7-not-yet-valid"),
    ],
)
def test_dates_of_a_client_certificate(authority: Authority, days: int, since: int, start: str, *, warning: bool) -> None:
    pair = authority.issue("dated", days=days, since=since)
    [(key, message, is_warning)] = faults(Tls(certificate=pair.certificate, private_key=pair.private_key))
    assert (key, is_warning) == ("certificate", warning)
    assert message.startswith(start)


def test_E7_a_bundle_is_good_while_one_of_its_certificates_is(tmp_path: Path, authority: Authority) -> None:
    expired, good = authority.issue("expired-ca", days=-1).certificate, authority.issue("good-ca", days=90).certificate
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(expired.read_bytes() + good.read_bytes())
    assert faults(Tls(ca=bundle)) == []
    assert [warning for _, _, warning in faults(Tls(ca=expired))] == [False]
    in_a_year = dt.datetime.now(dt.UTC) + dt.timedelta(days=365)
    assert [fault.warning for fault in check(Tls(ca=bundle), PATH, now=in_a_year)] == [False]
