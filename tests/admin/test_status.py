import msgspec

from gateway.admin.status import Load, WorkerStatus, read_worker_status


def test_what_a_worker_tells_is_read_again() -> None:
    told = WorkerStatus(Load(1, 2, 3, 4), (), ())
    assert read_worker_status(msgspec.json.encode(told)) == told


def test_a_worker_of_another_version_has_told_nothing() -> None:
    assert read_worker_status(b"") is None
    assert read_worker_status(b'{"load": 5}') is None
    assert read_worker_status(b"\xff") is None
