"""Tiles to images and back, and USTC's stream images against the published ones."""

import gzip
import struct

import numpy as np
import pytest

import xai_traffic as xt
from xai_traffic.capture import core, images
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import CaptureReader

CORES = ["numpy"] if core._core is None else ["numpy", "c"]
RANDOM = np.random.default_rng(5)


def test_every_pixel_is_the_byte_that_the_design_says():
    tiles = RANDOM.integers(0, 256, (2, 64, 256), np.uint8)
    made = images.grid_images(tiles)
    assert made.shape == (2, 128, 128) and made.dtype == np.uint8
    for image, y, x in RANDOM.integers(0, (2, 128, 128), (500, 3)):
        packet, byte = (y // 16) * 8 + x // 16, (y % 16) * 16 + x % 16
        assert made[image, y, x] == tiles[image, packet, byte]
    np.testing.assert_array_equal(images.tiles_of_images(made), tiles)


def test_images_of_ragged_sessions():
    counts = np.array([3, 0, 64, 1], np.int32)
    tiles = RANDOM.integers(1, 256, (counts.sum(), 256), np.uint8)
    first = np.cumsum(counts) - counts
    dense = np.zeros((4, 64, 256), np.uint8)
    for row, (begin, count) in enumerate(zip(first, counts, strict=True)):
        dense[row, :count] = tiles[begin : begin + count]
    made = images.images_of(tiles, first, counts)
    np.testing.assert_array_equal(made, images.grid_images(dense))
    some = np.array([3, 2])  # in any order
    np.testing.assert_array_equal(images.images_of(tiles, first[some], counts[some]), made[some])
    assert images.images_of(tiles[:0], [], []).shape == (0, 128, 128)


def test_sessions_give_images_by_row(captures):
    sessions = xt.read_capture(captures / "ustc/session_prefix/Malware/Zeus.pcap")
    made = sessions.images()
    assert made.shape == (len(sessions), 128, 128) and made.dtype == np.uint8
    rows = np.array([7, 3])
    np.testing.assert_array_equal(sessions.images(rows), made[rows])
    first, count = (sessions.table[name].to_numpy() for name in ("first_tile", "tiles"))
    tiles = images.tiles_of_images(made)
    np.testing.assert_array_equal(tiles[7, : count[7]], sessions.tiles[first[7] :][: count[7]])
    assert not tiles[7, count[7] :].any()


@pytest.mark.parametrize("filter", ["", "tcp or udp"])
@pytest.mark.parametrize("name", CORES)
def test_ustc28_reproduces_all_published_images(captures, monkeypatch, name, filter):
    monkeypatch.setenv(core.VARIABLE, name)
    original = captures / "ustc/original"
    with gzip.open(original / "Tinba-session-all-layers-idx3-ubyte.gz") as file:
        assert struct.unpack(">4I", file.read(16)) == (0x0803, 850, 28, 28)
        published = np.frombuffer(file.read(), np.uint8).reshape(850, 784)
    sessions = xt.read_capture(
        original / "Tinba.pcap", rule="five_tuple", layout="ustc28", layers="all", filter=filter
    )
    made = sessions.images()
    assert made.shape == (len(sessions), 28, 28) and made.dtype == np.uint8
    ours = {image.tobytes() for image in made}
    assert len(ours) == len(sessions)  # no two alike: a match is that very session
    assert sum(image.tobytes() in ours for image in published) == 850


def test_ustc28_reproduces_the_published_payload_images(captures):
    path = captures / "ustc/original/Tinba.pcap"
    sessions = xt.read_capture(
        path, rule="five_tuple", layout="ustc28", layers="payload", filter="udp or tcp"
    )
    ours = {image.tobytes() for image in sessions.images()}
    for part, count in (("train", 5722), ("test", 639)):
        with np.load(captures / f"ustc/session_l7_28x28/{part}.npz") as published:
            label = published["classes"].tolist().index("Tinba")
            theirs = published["images"][published["labels"] == label]
        assert len(theirs) == count and {image.tobytes() for image in theirs} <= ours


def session_of(payloads: list[bytes], seconds=1_000_000_000) -> list[tuple[float, bytes]]:
    packets = []
    for number, payload in enumerate(payloads):
        udp = struct.pack(">HHHH", 1, 53, 8 + len(payload), 0) + payload
        ip = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(udp), number, 0, 64, 17, 0, 1, 2)
        packets.append((seconds + number, bytes(12) + b"\x08\0" + ip + udp))
    return packets


def write(path, packets):
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for time, packet in packets:
        data += struct.pack("<IIII", time, 123456, len(packet), len(packet) + 5) + packet
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "sizes", [[0], [700, 700], [684, 50], [683, 50], [668, 9], [0] * 30, [60000, 3], [1, 2, 3]]
)
@pytest.mark.parametrize("name", CORES)
def test_ustc28_is_the_beginning_of_a_capture_file(tmp_path, monkeypatch, name, sizes):
    monkeypatch.setenv(core.VARIABLE, name)
    packets = session_of([RANDOM.integers(1, 256, size, np.uint8).tobytes() for size in sizes])
    stream = struct.pack(">IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    reach = 0
    for time, packet in packets:
        reach += len(stream) < 784
        stream += struct.pack(">IIII", time, 123456, len(packet), len(packet) + 5) + packet
    expected = stream[:784].ljust(784, b"\0")
    path = write(tmp_path / "a.pcap", packets)
    sessions = xt.read_capture(path, layout="ustc28")
    assert sessions.images().tobytes() == expected
    assert sessions.tiles.shape == (4, 256) and not sessions.tiles[3, 16:].any()
    assert sessions.table["tiles"].to_pylist() == [4]
    assert sessions.table["packets"].to_pylist() == [len(sizes)]
    assert len(sessions.packets) == reach
    assert sessions.table["packet_rows"].to_pylist() == [reach]


@pytest.mark.parametrize("name", CORES)
def test_ustc28_payload_comes_from_as_many_packets_as_it_takes(tmp_path, monkeypatch, name):
    monkeypatch.setenv(core.VARIABLE, name)
    payloads = [bytes([1 + number % 255]) * (number % 2) for number in range(2000)]
    one = session_of(payloads)
    path = write(tmp_path / "a.pcap", one)
    sessions = xt.read_capture(path, layout="ustc28", layers="payload")
    assert sessions.images().tobytes() == b"".join(payloads)[:784]
    assert sessions.packets["packet"].to_pylist() == list(range(1, 2 * 784, 2))


def test_ustc28_hides_before_it_writes_the_stream(tmp_path):
    path = write(tmp_path / "a.pcap", session_of([b"abc", b"def"]))
    plain = xt.read_capture(path, layout="ustc28").images().reshape(-1)
    masked = xt.read_capture(path, layout="ustc28", mask="ports").images().reshape(-1)
    begins = [40, 40 + 45 + 16]  # of both packets
    hidden = [begin + 34 + place for begin in begins for place in range(4)]
    assert not masked[hidden].any() and plain[hidden].any()
    np.testing.assert_array_equal(np.delete(masked, hidden), np.delete(plain, hidden))


@pytest.mark.parametrize("layers", ["all", "payload"])
def test_ustc28_batches_leave_out_what_the_stream_does_not_reach(tmp_path, monkeypatch, layers):
    packets = session_of([b"x" * 200] * 40) + session_of([b"y" * 100] * 3)
    path = write(tmp_path / "a.pcap", packets)
    rules = ReadingRules(layout="ustc28", layers=layers)
    monkeypatch.setattr("xai_traffic.capture.reader.CHUNK", 100)
    rows = np.concatenate([batch.packets for batch in CaptureReader(path, rules)])
    assert len(rows) == {"all": 3, "payload": 4}[layers]


@pytest.mark.parametrize("layers", ["all", "payload"])
def test_ustc28_of_nothing(tmp_path, layers):
    path = write(tmp_path / "a.pcap", session_of([b""]))
    sessions = xt.read_capture(path, layout="ustc28", layers=layers, min_packets=2)
    assert sessions.images().shape == (0, 28, 28) and sessions.tiles.shape == (0, 256)
    assert sessions.dropped == {"below minimum packets": 1} and len(sessions.packets) == 0
