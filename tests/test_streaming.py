"""Sessions handed over while a capture is read: when, how often, and with the same tiles."""

import os
import threading
import time

import numpy as np
import pytest
from both_cores import CORES
from capture_bytes import ethernet, ipv4, pcap, tcp, udp

from xai_traffic.capture import core, live, reader, streaming
from xai_traffic.capture.read_ahead import Ahead
from xai_traffic.capture.records import PACKET
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import read_capture_by
from xai_traffic.capture.streaming import SessionStream
from xai_traffic.capture.tile_store import TileStore
from xai_traffic.errors import CaptureError

SYN = 2


@pytest.fixture(params=CORES)
def any_core(request, monkeypatch):
    monkeypatch.setenv(core.VARIABLE, request.param)


def read_in_pieces(monkeypatch, size: int) -> None:
    """Make readers hand captures on in pieces of so many bytes at most."""
    monkeypatch.setattr(reader, "CHUNK", size)
    monkeypatch.setattr(live, "CHUNK", size)


def question(port: int, data: bytes = b"?") -> bytes:
    return ethernet(ipv4(udp(port, 53, data=data), protocol=17))


def stream(port: int, *, flags=0x10, sequence=1, data=b"") -> bytes:
    return ethernet(ipv4(tcp(port, 80, flags=flags, sequence=sequence, data=data)))


def mixed(seed: int = 0, packets: int = 600) -> bytes:
    """Return a capture of interleaved sessions, some long, some that end by a new connection."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(packets):
        port = int(rng.choice([1, 1, 2, rng.integers(3, 60)]))
        if rng.random() < 0.4:
            packet = question(port, rng.bytes(int(rng.integers(0, 400))))
        else:
            syn = rng.random() < 0.2
            data = b"" if syn else rng.bytes(int(rng.integers(0, 900)))
            packet = stream(port, flags=SYN if syn else 16, sequence=number // 200, data=data)
        records.append((number, 0, packet))
    return pcap(records)


def handed_over(path, rules, **options):
    """Return the groups of a stream, and the stream."""
    made = SessionStream(path, rules, "a", **options)
    return list(made), made


def rows(groups) -> dict[int, dict]:
    """Return the table rows of groups by session; each may be there only once."""
    listed = [row for group in groups for row in group.table.to_pylist()]
    found = {row["session"]: row for row in listed}
    assert len(found) == len(listed)
    return found


def images(groups) -> dict[int, bytes]:
    return {
        number: image.tobytes()
        for group in groups
        for number, image in zip(group.table["session"].to_pylist(), group.images(), strict=True)
    }


def without_places(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "first_tile"}


@pytest.mark.parametrize(
    "rules",
    [
        ReadingRules(),
        ReadingRules(layers="payload", mask="addresses+ports", min_packets=3),
        ReadingRules(rule="five_tuple", layers="network", max_open=7),
        ReadingRules(layout="ustc28", mask="addresses"),
        ReadingRules(layout="ustc28", layers="payload"),
        ReadingRules(rule="nfstream", layout="flow_rows"),
        ReadingRules(layout="heifip-header"),
    ],
    ids=lambda rules: f"{rules.rule}-{rules.layout}-{rules.layers}",
)
@pytest.mark.parametrize("kind", ["file", "pipe that waits for the ends"])
def test_a_capture_gives_the_sessions_that_reading_it_whole_gives(
    tmp_path, any_core, monkeypatch, rules, kind
):
    path = tmp_path / "a.pcap"
    path.write_bytes(mixed())
    whole = read_capture_by(path, rules, "a")
    monkeypatch.setattr(streaming, "GROUP", 10)
    read_in_pieces(monkeypatch, 5000)
    options = {} if kind == "file" else {"live": True, "quiet_after": 0}
    groups, stream = handed_over(path, rules, **options)
    assert len(groups) > 2 and max(map(len, groups)) == 10
    expected = {row["session"]: row for row in whole.table.to_pylist()}
    assert {number: without_places(row) for number, row in rows(groups).items()} == {
        number: without_places(row) for number, row in expected.items()
    }
    assert images(groups) == images([whole])
    assert stream.dropped == whole.dropped and stream.fault is None
    for group in groups:
        assert group.table["packet_rows"].to_numpy().sum() == len(group.packets)


def test_sessions_of_a_file_come_in_the_order_of_their_ends(tmp_path, any_core):
    packets = [question(1), stream(9, flags=SYN), question(2), stream(9, flags=SYN, sequence=7)]
    (tmp_path / "a.pcap").write_bytes(pcap(packets))
    (group,), _ = handed_over(tmp_path / "a.pcap", ReadingRules())
    assert group.table["session"].to_pylist() == [1, 0, 2, 3]
    assert group.table["end"].to_pylist() == ["new connection"] + ["capture end"] * 3


def test_sessions_of_a_pipe_are_known_before_their_ends(tmp_path, any_core, monkeypatch):
    read_in_pieces(monkeypatch, 60)  # a look at the clock after every packet
    records = [(number, 0, question(1)) for number in range(70)]  # more than its tiles
    records += [(70, 0, question(2)), (71, 0, question(2)), (200, 0, question(3))]
    records += [(201, 0, question(2)), (202, 0, question(1)), (203, 0, question(3))]
    records += [(203, 0, question(4))]
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap(records))
    whole = read_capture_by(path, ReadingRules(), "a")
    groups, stream = handed_over(path, ReadingRules(), live=True)
    found = rows(groups)
    assert {number: (row["end"], row["packets"]) for number, row in found.items()} == {
        0: ("packet limit", 64),
        1: ("quiet", 2),  # what came of it later is left out
        2: ("capture end", 2),
        3: ("capture end", 1),
    }
    assert found[1]["last_time"].second == 11  # 71 s
    assert [images(groups)[number] == images([whole])[number] for number in range(4)] == [
        True, False, True, True,
    ]  # fmt: skip
    assert stream.fault is None and not stream.stopped


def test_whatever_is_judged_of_a_pipe_with_all_its_tiles_has_the_same_image(
    tmp_path, any_core, monkeypatch
):
    read_in_pieces(monkeypatch, 999)
    path = tmp_path / "a.pcap"
    path.write_bytes(mixed(seed=1, packets=900))
    for rules in (ReadingRules(mask="ports"), ReadingRules(layers="payload", min_packets=2)):
        whole = read_capture_by(path, rules, "a")
        expected, same = images([whole]), rows([whole])
        groups, _ = handed_over(path, rules, live=True, quiet_after=30)
        found = rows(groups)
        complete = [n for n, row in found.items() if row["tiles"] == same[n]["tiles"]]
        assert {"packet limit", "quiet"} < {row["end"] for row in found.values()}
        assert len(complete) > 10
        assert all(images(groups)[number] == expected[number] for number in complete)


def test_a_clock_that_leaps_makes_no_session_wait_for_ever(tmp_path, monkeypatch):
    read_in_pieces(monkeypatch, 200)
    records = [(0, 0, question(1)), (4_000_000_000, 0, question(2))]  # a wrong clock once
    records += [(second, 0, question(3 + second)) for second in range(1, 100)]
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap(records))
    found = rows(handed_over(path, ReadingRules(), live=True, quiet_after=10)[0])
    ends = [found[number]["end"] for number in range(len(found))]
    assert ends[0] == "quiet" and ends[1] == "capture end" and ends.count("quiet") > 80


def test_too_many_tiles_of_a_pipe_are_judged_early(tmp_path, any_core, monkeypatch):
    read_in_pieces(monkeypatch, 2000)
    records = [question(1 + number % 40) for number in range(400)]
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap(records))
    room = 100 * (PACKET.itemsize + 8 + 256)
    groups, made = handed_over(path, ReadingRules(), live=True, quiet_after=1e6, pending=room)
    found = rows(groups)
    assert len(found) == 40 and "evicted" in {row["end"] for row in found.values()}
    assert made._store.bytes == 0
    counts = [row["packets"] for row in found.values()]
    assert max(counts) <= 10 and [row["tiles"] for row in found.values()] == counts
    # Of a file nothing is judged early: its tiles lie on disk instead.
    found = rows(handed_over(path, ReadingRules(), pending=room)[0])
    assert {row["packets"] for row in found.values()} == {10}


@pytest.fixture
def pipe(tmp_path):
    """A named pipe, and what writes to it."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    opened = threading.Event()
    held = []

    def write(data: bytes) -> None:
        if not held:
            held.append(os.open(path, os.O_WRONLY))
            opened.set()
        os.write(held[0], data)

    yield path, write, lambda: os.close(held.pop())
    for descriptor in held:
        os.close(descriptor)


def test_a_pipe_that_falls_silent_is_judged_all_the_same(pipe, monkeypatch):
    path, write, close = pipe
    monkeypatch.setattr(streaming, "TICK", 0.02)
    monkeypatch.setattr(streaming, "DELAY", 0.05)
    assert live.is_live(path)
    first = threading.Thread(target=write, args=(pcap([question(1), question(2)]),))
    first.start()
    made = SessionStream(path, ReadingRules(), quiet_after=0.3)
    begun = time.monotonic()
    group = next(made)  # times of packets stand still, the clock on the wall does not
    assert time.monotonic() - begun < 5
    # The first was a second old when the second came, by their own times.
    listed = group.table.to_pylist() + (next(made).table.to_pylist() if len(group) == 1 else [])
    assert [(row["session"], row["end"]) for row in listed] == [(0, "quiet"), (1, "quiet")]
    first.join()
    write(pcap([(9, 0, question(3))])[24:])
    close()
    assert rows(list(made))[2]["end"] == "capture end" and made.fault is None


def test_a_pipe_that_is_stopped_gives_what_is_open_and_no_fault(pipe, monkeypatch):
    path, write, _ = pipe
    monkeypatch.setattr(streaming, "TICK", 0.02)
    monkeypatch.setattr(streaming, "GRACE", 0.1)
    half = pcap([question(1), question(2)])[:-5]
    writer = threading.Thread(target=write, args=(half,))
    writer.start()
    made = SessionStream(path, ReadingRules(), stop=lambda: made.packets > 0)
    assert [row["end"] for row in rows(list(made)).values()] == ["capture end"]
    assert made.stopped and made.fault is None
    writer.join()


def test_a_pipe_that_is_stopped_before_it_gives_anything(pipe, monkeypatch):
    path, write, _ = pipe
    monkeypatch.setattr(streaming, "TICK", 0.02)
    monkeypatch.setattr(streaming, "GRACE", 0.05)
    writer = threading.Thread(target=write, args=(b"",))
    writer.start()
    made = SessionStream(path, ReadingRules(), stop=lambda: True)
    assert list(made) == [] and made.fault is None
    writer.join()


def test_a_file_that_is_stopped_gives_what_was_read(tmp_path, monkeypatch):
    read_in_pieces(monkeypatch, 1000)
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap([question(1 + number) for number in range(100)]))
    asked = iter([False, False, False, True])
    groups, made = handed_over(path, ReadingRules(), stop=lambda: next(asked))
    assert 20 < len(rows(groups)) < 80 and made.stopped and made.fault is None


@pytest.mark.parametrize("live", [False, True])
def test_faults_and_errors_are_told(tmp_path, live):
    whole = pcap([question(1), question(2)])
    (tmp_path / "cut.pcap").write_bytes(whole[:-1])
    groups, made = handed_over(tmp_path / "cut.pcap", ReadingRules(), live=live)
    assert len(rows(groups)) == 1 and "cut short" in made.fault
    (tmp_path / "none.pcap").write_bytes(b"GIF89a" * 9)
    with pytest.raises(CaptureError, match="not a capture"):
        handed_over(tmp_path / "none.pcap", ReadingRules(), live=live)
    (tmp_path / "empty.pcap").write_bytes(b"")
    with pytest.raises(CaptureError, match="empty"):
        handed_over(tmp_path / "empty.pcap", ReadingRules(), live=live)
    with pytest.raises(CaptureError, match="no such file"):
        handed_over(tmp_path / "missing.pcap", ReadingRules(), live=live)


def test_what_is_live(tmp_path):
    path = tmp_path / "a.pcap"
    path.write_bytes(b"")
    assert not live.is_live(path) and not live.is_live(tmp_path)
    assert not live.is_live(tmp_path / "missing")
    descriptor = os.open(path, os.O_RDONLY)
    before = os.dup(0)
    try:
        os.dup2(descriptor, 0)
        assert not live.is_live("-")  # a file put in standard input's place
        ends = os.pipe()
        os.dup2(ends[0], 0)
        assert live.is_live("-")
    finally:
        os.dup2(before, 0)
        for each in (descriptor, before, *ends):
            os.close(each)


def test_pieces_come_in_order_together_and_with_their_error():
    gate = threading.Event()

    def pieces():
        yield b"a"
        gate.wait(5)
        yield from (b"b", b"c", b"")
        raise CaptureError("x", "damaged")

    taken = live.timed_chunks(pieces(), 0.05)
    assert next(filter(None, taken)) == b"a" and next(taken) == b""
    gate.set()
    said = b""
    with pytest.raises(CaptureError, match="damaged"):
        for chunk in taken:
            said += chunk
    assert said == b"bc"

    ahead = Ahead((piece for piece in (b"a", b"bc", b"def", b"g")), 1000)
    ahead.start().join()
    assert [ahead.take(1, 3) for _ in range(4)] == [b"abc", b"def", b"g", None]


def test_what_is_read_ahead_is_bounded(monkeypatch):
    monkeypatch.setattr(live, "AHEAD", 1000)
    monkeypatch.setattr(live, "CHUNK", 400)
    given = []

    def pieces():
        for number in range(100):
            given.append(number)
            yield bytes([number]) * 100

    taken = live.timed_chunks(pieces(), 5)
    time.sleep(0.1)
    assert len(given) <= 11
    assert b"".join(taken) == b"".join(bytes([number]) * 100 for number in range(100))


@pytest.mark.parametrize("memory", [1 << 30, 4096], ids=["memory", "file"])
def test_a_store_gives_back_what_it_was_given(memory):
    rng = np.random.default_rng(0)
    store = TileStore(16, memory)
    held: dict[int, list[tuple[bytes, bytes]]] = {}
    begun, counts = 0, {}
    for _ in range(300):
        size = int(rng.integers(0, 40))
        packets = np.zeros(size, PACKET)
        tiles = rng.integers(0, 256, (size, 16), np.uint8)
        for row in range(size):
            number = int(rng.integers(max(0, begun - 30), begun + 1))
            begun += number == begun
            counts[number] = counts.get(number, -1) + 1
            packets[row]["session"], packets[row]["packet"] = number, counts[number]
            if number in held or counts[number] == 0:
                held.setdefault(number, []).append((tiles[row].tobytes(), packets[row].tobytes()))
        store.add(tiles, packets, only_whole=True)
        gone = [number for number in held if rng.random() < 0.1]
        if rng.random() < 0.3 and gone:
            store.seal(np.array(gone))
            found_tiles, found = store.take(np.array(gone))
            for number in gone:
                of = found["session"] == number
                expected = held.pop(number)
                assert [row.tobytes() for row in found_tiles[of]] == [each[0] for each in expected]
                assert [row.tobytes() for row in found[of]] == [each[1] for each in expected]
            assert len(found) == sum(np.isin(found["session"], gone))
        assert store.bytes == sum(map(len, held.values())) * (16 + 8 + PACKET.itemsize)
    store.close()
