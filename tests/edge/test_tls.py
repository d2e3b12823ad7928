"""TLS towards clients: what is wrong with its files, and whom a client's certificate names."""

import asyncio
import datetime as dt
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Config, ServerTls
from gateway.edge.tls import check_server_tls, server_context, subject
from tests.config.files import Files
from tests.upstream.certificates import VERSION_2, VERSION_3, Authority, Pair, spoiled, weak_pair

KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load(**tls: Path) -> Config:
        files = Files(tmp_path)
        return files.load(files.text(server__tls="{" + ", ".join(f"{key}: {file}" for key, file in tls.items()) + "}")).config

    return load


def faults(config: Config) -> list[tuple[str, str, bool]]:
    return [(".".join(map(str, fault.path)), fault.message, fault.warning) for fault in check_server_tls(config)]


def test_good_files_have_no_faults(load: Any, server_pair: Pair, authority: Authority) -> None:
    assert faults(load(certificate=server_pair.certificate, private_key=server_pair.private_key, client_ca=authority.ca)) == []


def test_without_tls_there_is_nothing_to_check(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert faults(files.load(files.text()).config) == []


def test_E7_a_certificate_that_has_expired_is_refused(load: Any, authority: Authority) -> None:
    old = authority.issue("old", days=-1)
    [(path, message, is_warning)] = faults(load(certificate=old.certificate, private_key=old.private_key))
    assert (path, is_warning) == ("server.tls.certificate", False)
    assert message.startswith("expired on 20")


def test_E7_a_certificate_close_to_its_end_is_a_warning(load: Any, authority: Authority) -> None:
    ending = authority.issue("ending", days=20)
    [(path, message, is_warning)] = faults(load(certificate=ending.certificate, private_key=ending.private_key))
    assert (path, is_warning) == ("server.tls.certificate", True)
    assert message.startswith("expires on 20")


def test_E1_a_key_of_another_certificate_is_refused(load: Any, authority: Authority, server_pair: Pair) -> None:
    other = authority.issue("other")
    assert faults(load(certificate=server_pair.certificate, private_key=other.private_key)) == [
        ("server.tls.private_key", "this is not the private key of the certificate", False)
    ]


@pytest.mark.parametrize("key", ["certificate", "private_key", "client_ca"])
def test_E1_files_that_are_not_there_or_hold_nothing_are_refused(
    load: Any, server_pair: Pair, authority: Authority, tmp_path: Path, key: str
) -> None:
    (tmp_path / "empty").write_text("")
    good = {"certificate": server_pair.certificate, "private_key": server_pair.private_key, "client_ca": authority.ca}
    for file, words in ((tmp_path / "none", "cannot be read: No such file"), (tmp_path / "empty", "holds no ")):
        [(path, message, is_warning)] = faults(load(**{**good, key: file}))
        assert (path, is_warning) == (f"server.tls.{key}", False)
        assert message.startswith(words)


def test_E1_what_openssl_does_not_take_is_refused(load: Any, tmp_path: Path) -> None:
    weak = weak_pair(tmp_path)
    [(path, message, _)] = faults(load(certificate=weak.certificate, private_key=weak.private_key))
    assert (path, message) == ("server.tls.certificate", "OpenSSL takes it not: EE_KEY_TOO_SMALL")


def test_A17_only_strong_versions_and_ciphers_are_offered(server_pair: Pair) -> None:
    context = server_context(ServerTls(certificate=server_pair.certificate, private_key=server_pair.private_key))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE
    assert all("GCM" in cipher["name"] or "CHACHA20" in cipher["name"] for cipher in context.get_ciphers())
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION


class Session:
    """What a transport knows of its TLS session."""

    def __init__(self, shown: bytes | None) -> None:
        self._shown = shown

    def getpeercert(self, *, binary_form: bool) -> bytes | None:
        assert binary_form
        return self._shown


class Transport(asyncio.BaseTransport):
    """A transport with such a session."""

    def __init__(self, *attributes: tuple[x509.ObjectIdentifier, str]) -> None:
        name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(name, name, KEY.public_key(), 1, now, now + dt.timedelta(days=60))
        super().__init__({"ssl_object": Session(builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER))})


CN, O = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME  # noqa: E741  as it is called


@pytest.mark.parametrize(
    ("attributes", "written"),
    [
        pytest.param([(O, "Wallet"), (CN, "app")], "CN=app,O=Wallet", id="plain"),
        pytest.param([(CN, "a,b+c\\d")], r"CN=a\,b\+c\\d", id="special"),
        pytest.param([(CN, "héllo €")], r"CN=h\c3\a9llo \e2\82\ac", id="not-ASCII"),
        pytest.param([(CN, "a\r\nX-Customer-Id: 1\x00")], r"CN=a\0d\0aX-Customer-Id: 1\00", id="control-characters"),
        pytest.param([(CN, " a ")], r"CN=\20a\20", id="spaces-at-the-ends"),
        pytest.param([(CN, "a\\ ")], r"CN=a\\\20", id="backslash-and-space"),
        pytest.param([], None, id="empty"),
    ],
)
def test_a_subject_is_written_in_visible_ascii(attributes: list[tuple[x509.ObjectIdentifier, str]], written: str | None) -> None:
    assert subject(Transport(*attributes)) == written


def test_without_tls_or_certificate_there_is_no_subject() -> None:
    assert subject(asyncio.BaseTransport()) is None
    assert subject(asyncio.BaseTransport({"ssl_object": Session(None)})) is None


def test_a_certificate_that_cannot_be_read_names_nobody(authority: Authority) -> None:
    for shown in (b"\x30\x00", spoiled(authority.ca, VERSION_3, VERSION_2)):
        assert subject(asyncio.BaseTransport({"ssl_object": Session(shown)})) is None


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=3))
def test_every_subject_is_the_value_of_a_header_field_and_can_be_read_back(names: list[str]) -> None:
    try:
        transport = Transport(*[(NameOID.ORGANIZATIONAL_UNIT_NAME, name) for name in names])
    except ValueError:  # a lone surrogate, say
        return
    written = subject(transport)
    assert written is not None
    assert all(" " <= character <= "~" for character in written)
    assert written.strip() == written
    assert [attribute.value for attribute in x509.Name.from_rfc4514_string(written)] == names
