import os
import ssl
from pathlib import Path

from gateway.config import load
from gateway.server.copies import FILE_MAX, Copies, content, read_files
from gateway.simulator import Ports
from gateway.simulator.configuration import render
from tests.upstream.certificates import Authority, Pair


def test_a_file_is_read_once_and_whole(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    assert read_files([file, tmp_path / "none"]) == {str(file): b"one"}


def test_what_is_no_regular_file_or_too_large_is_left_to_the_checks(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(FILE_MAX + 1)
    assert [content(file) for file in (pipe, large, tmp_path, tmp_path / "none", Path("\0"))] == [None] * 5


def test_a_configuration_is_pointed_at_copies_that_stay_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(render(Ports()))
    (tmp_path / "keys").mkdir()
    key = tmp_path / "keys" / "mpp-1.pem"
    key.write_bytes(b"first")
    config = load(path).config
    with Copies(read_files([key])) as copies:
        copied = copies.apply(config)
        key.write_bytes(b"second")
        file = copied.alipayplus.signing.private_keys["1"].file
        assert [file.read_bytes(), file.read_bytes()] == [b"first", b"first"]
        assert copied.alipayplus.verification == config.alipayplus.verification, "a file without a copy is left as it is"
        assert copied.server == config.server
    assert not file.exists()


def test_openssl_reads_copies(authority: Authority, server_pair: Pair) -> None:
    with Copies(read_files([authority.ca, server_pair.certificate, server_pair.private_key])) as copies:
        ca, certificate, key = (str(place) for place in copies._places.values())
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(certificate, key)
        assert len(context.get_ca_certs()) == 1
