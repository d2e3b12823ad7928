"""Private keys that others may read."""

import os

import pytest

from tests.config.files import Files


@pytest.fixture
def key(files: Files) -> str:
    (files.folder / "own.key").write_text("")
    return "own.key"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_E2_a_key_for_the_owner_only_is_fine(files: Files, key: str, mode: int) -> None:
    (files.folder / key).chmod(mode)
    assert files.load(files.text(alipayplus__signing__private_keys=f'{{"1": {key}}}')).warnings == ()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o444])
def test_E2_a_key_readable_by_others_is_a_warning(files: Files, key: str, mode: int) -> None:
    (files.folder / key).chmod(mode)
    tls = f"{{certificate: a, private_key: {key}}}"
    text = files.text(
        alipayplus__signing__private_keys=f'{{"1": {key}}}',
        alipayplus__tls=tls,
        server__tls=tls,
        session__forward__url="https://a",
        session__forward__tls=tls,
        api__upstreams=f"{{orders: {{servers: 'https://b', tls: {tls}}}}}",
        api__routes="[{prefix: /orders, upstream: orders}]",
    )
    warnings = files.load(text).warnings
    assert {fault.path for fault in warnings} == {
        ("alipayplus", "signing", "private_keys", "1"),
        ("alipayplus", "tls", "private_key"),
        ("server", "tls", "private_key"),
        ("session", "forward", "tls", "private_key"),
        ("api", "upstreams", "orders", "tls", "private_key"),
    }
    assert all(f"mode {mode:04o}" in fault.message for fault in warnings)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to somebody else")
@pytest.mark.parametrize(("mode", "group", "count"), [(0o440, os.getegid(), 0), (0o444, os.getegid(), 1), (0o440, 65532, 1)])
def test_E2_a_key_of_somebody_else_may_be_readable_by_our_group(files: Files, key: str, mode: int, group: int, count: int) -> None:
    (files.folder / key).chmod(mode)
    os.chown(files.folder / key, 65531, group)
    assert len(files.load(files.text(alipayplus__signing__private_keys=f'{{"1": {key}}}')).warnings) == count


def test_files_that_are_not_there_are_left_to_others(files: Files) -> None:
    assert files.load(files.text()).warnings == ()


@pytest.mark.parametrize(("mode", "count"), [(0o440, 0), (0o444, 1)])
def test_E2_a_credential_of_systemds_shows_its_access_control_list_as_bits_of_the_group(
    files: Files, key: str, mode: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(files.folder))
    (files.folder / key).chmod(mode)
    assert len(files.load(files.text(alipayplus__signing__private_keys=f'{{"1": {key}}}')).warnings) == count
