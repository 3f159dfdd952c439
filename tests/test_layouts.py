"""heiFIP's other images, each against the plainest way to make it."""

import types

import numpy as np
import pytest
from capture_bytes import ethernet, ipv4, pcap, udp

import xai_traffic as xt
from xai_traffic.capture.layouts import TILE_LAYOUTS, make_images
from xai_traffic.capture.rules import LAYOUTS, ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.errors import ConfigError
from xai_traffic.training.job import check_dataset

RANDOM = np.random.default_rng(11)
COUNTS = np.array([3, 64, 1, 10, 4, 0, 17])
LENGTHS = RANDOM.integers(0, 257, COUNTS.sum())
LENGTHS[[0, 4, 9]] = 0, 256, 1
TILES = RANDOM.integers(0, 256, (COUNTS.sum(), 256), np.uint8)
TILES[np.arange(256) >= LENGTHS[:, None]] = 0
FIRST = np.cumsum(COUNTS) - COUNTS


def packets_of(row: int) -> list[bytes]:
    """Return the bytes that a session's tiles hold."""
    of = range(FIRST[row], FIRST[row] + COUNTS[row])
    return [TILES[tile, : LENGTHS[tile]].tobytes() for tile in of]


def square(data: bytes, side: int) -> np.ndarray:
    return np.frombuffer(data.ljust(side * side, b"\0"), np.uint8).reshape(side, side)


def transitions(data: bytes) -> np.ndarray:
    counts = np.zeros((16, 16))
    digits = [int(digit, 16) for digit in data.hex()]
    for here, there in zip(digits, digits[1:], strict=False):
        counts[here, there] += 1
    return np.array([[each / sum(row) if sum(row) else 0 for each in row] for row in counts])


def expected(layout: str, row: int) -> list[np.ndarray]:
    """Return the images of a session."""
    packets = packets_of(row)
    if layout == "packet":
        return [square(packet, 16) for packet in packets]
    if layout == "flow_rows":
        padded = b"".join(packet.ljust(256, b"\0") for packet in packets)
        return [square(padded, 128).reshape(64, 256)]
    if layout == "flow_appended":
        return [square(b"".join(packets), 128)]
    if layout == "markov_packet":
        return [transitions(packet) for packet in packets]
    side = 8 if layout in ("tiles", "markov_flow") else int(np.ceil(np.sqrt(len(packets))))
    draw = transitions if layout == "markov_flow" else lambda packet: square(packet, 16)
    image = np.zeros((side * 16, side * 16))
    for place, packet in enumerate(packets):
        y, x = 16 * (place // side), 16 * (place % side)
        image[y : y + 16, x : x + 16] = draw(packet)
    return [image]


@pytest.mark.parametrize("layout", TILE_LAYOUTS)
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5, 6], [4, 1], [5], []])
def test_images_of_a_layout(layout, rows):
    rows = np.array(rows, np.int64)
    made = make_images("tiles", TILES, FIRST[rows], COUNTS[rows], LENGTHS, layout)
    wanted = [image for row in rows for image in expected(layout, row)]
    assert len(made) == len(wanted)
    for ours, theirs in zip(made, wanted, strict=True):
        assert ours.dtype == (np.float32 if layout.startswith("markov") else np.uint8)
        np.testing.assert_array_equal(ours, theirs.astype(ours.dtype))
    if layout != "tiled_auto":
        shape = {"packet": (16, 16), "markov_packet": (16, 16), "flow_rows": (64, 256)}
        assert made.shape[1:] == shape.get(layout, (128, 128))


def test_rows_of_a_matrix_are_shares():
    made = make_images("markov_packet", TILES, FIRST, COUNTS, LENGTHS)
    sums = made.sum(axis=2)
    np.testing.assert_allclose(sums[sums > 0], 1, rtol=1e-6)
    assert not made[0].any()  # no bytes
    assert made[9].sum() == 1  # one byte: one half-byte follows the other


def write(path, packets=(5, 300, 700)):
    frames = [ethernet(ipv4(udp(data=bytes([7] * n)), protocol=17)) for n in packets]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pcap(frames))
    return path


@pytest.mark.parametrize("layout", TILE_LAYOUTS)
def test_a_capture_read_by_one_layout_gives_the_images_of_all(tmp_path, layout):
    path = write(tmp_path / "a.pcap")
    plain = xt.read_capture(path)
    sessions = xt.read_capture(path, layout=layout)
    np.testing.assert_array_equal(sessions.tiles, plain.tiles)
    assert sessions.packets.equals(plain.packets)
    np.testing.assert_array_equal(sessions.images(), plain.images(layout=layout))
    np.testing.assert_array_equal(sessions.images([0], "flow_rows")[0, :3], plain.tiles)
    np.testing.assert_array_equal(sessions.images(layout="tiles"), plain.images())


def test_a_dataset_gives_the_images_of_all_layouts(tmp_path):
    folder = tmp_path / "in"
    write(folder / "Benign/a.pcap")
    write(folder / "Malware/b.pcap", (1, 2))
    made = xt.open_dataset(convert([folder], tmp_path / "out", rules=ReadingRules()).dataset)
    assert made.tile_lengths.tolist() == made.packets["length"].to_pylist()
    for layout in TILE_LAYOUTS:
        for row, name in enumerate(["Benign/a.pcap", "Malware/b.pcap"]):
            sessions = xt.read_capture(folder / name, layout=layout)
            np.testing.assert_array_equal(made.images([row], layout), sessions.images())


def test_models_refuse_images_of_other_shapes(tmp_path):
    folder = write(tmp_path / "in/Benign/a.pcap").parent.parent
    write(folder / "Malware/b.pcap", (1, 2))
    rules = ReadingRules(layout="markov_flow")
    made = xt.open_dataset(convert([folder], tmp_path / "out", rules=rules).dataset)
    assert made.grid == 64 and made.images([0, 1]).shape == (2, 128, 128)
    with pytest.raises(ConfigError, match=r"layout 'markov_flow'.*--layout tiles"):
        check_dataset(types.SimpleNamespace(data=types.SimpleNamespace(mask=None)), made)
    masked = convert([made.path], tmp_path / "masked", rules=ReadingRules(mask="ports")).dataset
    theirs = xt.open_dataset(masked).images([0, 1])  # of the bytes that the mask left
    assert theirs.shape == (2, 128, 128) and (theirs != made.images([0, 1])).any()


def test_layouts_of_other_tiles_do_not_mix(tmp_path):
    path = write(tmp_path / "a.pcap")
    stream = xt.read_capture(path, layout="ustc28")
    with pytest.raises(ConfigError, match=r"'packet' cannot be made.*'ustc28': choose one of"):
        stream.images(layout="packet")
    with pytest.raises(ConfigError, match="'ustc28' cannot be made of tiles of layout 'packet'"):
        xt.read_capture(path, layout="packet").images(layout="ustc28")
    with pytest.raises(ConfigError, match="choose one of tiles, packet"):
        ReadingRules(layout="columns")
    assert set(TILE_LAYOUTS) < set(LAYOUTS)
