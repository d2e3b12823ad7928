from gateway.upstream.names import LONGEST, MOST, NameTable


def test_each_name_is_asked_for_once() -> None:
    asked: list[bytes] = []

    def say(name: bytes) -> int:
        asked.append(name)
        return len(name)

    table = NameTable(say)
    fields = [(b"a", b"1"), (b"bb", b"2"), (b"a", b"3")]
    assert table.of(fields) == table.of(tuple(fields)) == [1, 2, 1]
    assert asked == [b"a", b"bb"]


def test_G12_ever_new_and_long_names_take_no_memory() -> None:
    table = NameTable(bytes.lower)
    for number in range(3 * MOST):
        assert table.of([(b"X-%d" % number, b"")]) == [b"x-%d" % number]
        assert len(table) <= MOST
    long = b"X" * (LONGEST + 1)
    before = len(table)
    assert table.of([(long, b"")]) == [long.lower()]
    assert len(table) == before
