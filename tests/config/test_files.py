from pathlib import Path

from gateway.config.files import named_files, with_files
from tests.config.files import Files


def test_every_file_that_is_read_is_named_by_its_key(files: Files) -> None:
    text = files.text(
        server__tls="{certificate: s.crt, private_key: s.key}",
        server__pid_file="g.pid",
        alipayplus__tls="{ca: ca.pem}",
        session__forward__url="https://a/s",
        session__forward__tls="{ca: i.pem}",
        api="{upstreams: {w: {servers: 'https://a', tls: {certificate: u.crt, private_key: u.key}}}, routes: [{prefix: /, upstream: w}]}",
    )
    found = named_files(files.load(text).config)
    folder = files.folder
    assert found == {
        ("server", "tls", "certificate"): folder / "s.crt",
        ("server", "tls", "private_key"): folder / "s.key",
        ("session", "forward", "tls", "ca"): folder / "i.pem",
        ("alipayplus", "signing", "private_keys", "1", "file"): folder / "keys/mpp-1.pem",
        ("alipayplus", "verification", "public_keys", "1"): folder / "keys/alipayplus-1.pem",
        ("alipayplus", "tls", "ca"): folder / "ca.pem",
        ("api", "upstreams", "w", "tls", "certificate"): folder / "u.crt",
        ("api", "upstreams", "w", "tls", "private_key"): folder / "u.key",
    }


def test_files_are_replaced_and_nothing_else(files: Files) -> None:
    config = files.load(files.text(server__pid_file="g.pid", server__listen="unix:a.sock")).config
    assert with_files(config, lambda _, file: file) == config
    changed = with_files(config, lambda _, file: Path("/elsewhere") / file.name)
    assert changed.alipayplus.verification.public_keys == {"1": Path("/elsewhere/alipayplus-1.pem")}
    assert changed.server == config.server
