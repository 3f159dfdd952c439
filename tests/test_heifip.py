"""heiFIP's renderings against the real heiFIP 1.1.1, and against what it once made.

The real one is run where XAI_TRAFFIC_HEIFIP names the Python that it is installed for (in an
environment of its own: heifip==1.1.1 scapy==2.5.0 cryptography==41.0.1 numpy pillow tqdm).
`python tests/test_heifip.py` then writes the golden files anew.
"""

import json
import os
import pathlib
import struct
import subprocess
import tempfile
import time

import numpy as np
import pytest
from capture_bytes import pcap, udp
from heifip_packets import ETHERNET, MADE, dns, in_ip
from small_dataset import tiny_config

import xai_traffic as xt
from xai_traffic.capture import core
from xai_traffic.capture.core_numpy import Core
from xai_traffic.capture.filters import compile_filter
from xai_traffic.capture.heifip import RANDOM, draw_noise, render
from xai_traffic.capture.records import NONE, PACKET
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.errors import ConfigError, DatasetError
from xai_traffic.training.job import check_dataset

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE / "golden/heifip"
PYTHON = os.environ.get("XAI_TRAFFIC_HEIFIP")
CORES = ["numpy"] if core._core is None else ["numpy", "c"]
NOISE = bytes(range(1, RANDOM + 1))


def real(captures: list[pathlib.Path], packets: int, rounds: int) -> list:
    """Return what heiFIP makes of captures, see heifip_real.py."""
    command = [PYTHON, HERE / "heifip_real.py", str(packets), str(rounds), *captures]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout)


def ours(packet: bytes, link: int, header: bool) -> list:
    """Return our rendering in the same form."""
    data, random = render(packet, link, header, NOISE)
    common = bytearray(data)
    for first, count in random:
        common[first : first + count] = bytes(count)
    return [common[:256].hex(), len(data), [[first, count] for first, count in random]]


def joined(runs: list) -> list:
    """Return runs of bytes with those that touch as one."""
    made = []
    for first, count in runs:
        if made and sum(made[-1]) == first:
            made[-1][1] += count
        else:
            made.append([first, count])
    return made


def made_of_golden() -> list:
    return [
        pytest.param(link, name, mode, id=f"{name}-{mode}")
        for link, packets in MADE.items()
        for name in packets
        for mode in ("none", "header")
    ]


@pytest.fixture(scope="module")
def golden():
    return json.loads((GOLDEN / "made.json").read_text())


@pytest.mark.parametrize("link, name, mode", made_of_golden())
def test_made_packets_look_as_heifip_made_them(golden, link, name, mode):
    theirs = golden[name][mode]
    if theirs is None:  # heiFIP stops; ours goes on
        assert render(MADE[link][name], link, mode == "header", NOISE).data
        return
    data, length, random = ours(MADE[link][name], link, mode == "header")
    assert (data, length, joined(random)) == tuple(theirs)


def test_golden_files_cover_what_is_made(golden):
    assert list(golden) == [name for packets in MADE.values() for name in packets]


needs_heifip = pytest.mark.skipif(
    not PYTHON, reason="XAI_TRAFFIC_HEIFIP names no Python that heiFIP 1.1.1 is installed for"
)


@needs_heifip
def test_golden_files_are_what_heifip_makes_today(golden, tmp_path):
    assert golden_of_real(tmp_path) == golden


CHOICE = [
    "protocols/DNS",
    "protocols/HTTP",
    "protocols/TLS",
    "protocols/MQTT",
    "protocols/QUIC",
]


@needs_heifip
@pytest.mark.parametrize("folder", CHOICE)
def test_real_captures_look_as_heifip_makes_them(captures, folder):
    paths = sorted((captures / folder).iterdir())[:12]
    total = 0
    for path, packets in zip(paths, real(paths, 60, rounds=1), strict=True):
        frames = frames_of(path)
        for number, theirs in enumerate(packets, 1):
            for header, each in enumerate(theirs if number in frames else ()):
                if each is None:  # heiFIP stops
                    continue
                data, length, random = ours(*frames[number], bool(header))
                common = bytearray.fromhex(each[0])
                for first, count in random:
                    common[first : first + count] = bytes(count)
                assert (data, length) == (common.hex(), each[1]), f"{path}, packet {number}"
                total += 1
    assert total > 50


def frames_of(path: pathlib.Path) -> dict[int, tuple[bytes, int]]:
    """Return the IP packets of a capture and their link types, by number."""
    whole = Core("five_tuple", "all", compile_filter(""), 65_535, 65_535, 0, 0, "outer")
    frames = {}
    for tiles, packets, _ in (whole.feed(path.read_bytes()), whole.finish()):
        tiles = np.frombuffer(tiles, np.uint8).reshape(-1, 65_535)
        for tile, row in zip(tiles, np.frombuffer(packets, PACKET), strict=True):
            frames[int(row["frame"])] = tile[: row["length"]].tobytes(), int(row["link"])
    return frames


def write(path: pathlib.Path) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pcap(list(MADE[ETHERNET].values())))
    return path


@pytest.mark.parametrize("mode", ["none", "header"])
@pytest.mark.parametrize("name", CORES)
def test_a_capture_gives_renderings(tmp_path, monkeypatch, mode, name):
    monkeypatch.setenv(core.VARIABLE, name)
    monkeypatch.setattr(core, "_WIDE_CHUNK", 1000)
    path = write(tmp_path / "a.pcap")
    sessions = xt.read_capture(path, layout=f"heifip-{mode}", filter="")
    plain = xt.read_capture(path, filter="")
    assert sessions.images().shape == (len(plain), 128, 128)
    for column in ("session", "packet", "frame", "time_ns", "captured", "direction"):
        assert sessions.packets[column].equals(plain.packets[column])
    for column in ("network", "transport", "payload"):
        assert set(sessions.packets[column].to_pylist()) == {NONE}
    packets = list(MADE[ETHERNET].values())
    frames = sessions.packets["frame"].to_numpy()
    noise = draw_noise(frames, sessions.packets["time_ns"].to_numpy())
    lengths = sessions.packets["length"].to_pylist()
    for row, frame in enumerate(frames):
        made = render(packets[frame - 1], ETHERNET, mode == "header", noise[row].tobytes()).data
        assert lengths[row] == min(256, len(made))
        assert sessions.tiles[row].tobytes() == made[:256].ljust(256, b"\0")


def test_noise_is_of_the_seed_the_number_and_the_time():
    frames, times = np.array([1, 2, 1, 1]), np.array([5, 5, 6, 5])
    noise = draw_noise(frames, times)
    assert noise.shape == (4, RANDOM) and noise.dtype == np.uint8
    assert len({row.tobytes() for row in noise}) == 3
    np.testing.assert_array_equal(noise[0], noise[3])
    np.testing.assert_array_equal(noise[2], draw_noise(frames[2:3], times[2:3])[0])
    assert not (draw_noise(frames, times, 1) == noise).all(axis=1).any()
    many = draw_noise(np.arange(4000), np.zeros(4000, np.int64))
    assert abs(many.mean() - 127.5) < 1 and abs(many.std() - 73.9) < 1


@pytest.mark.parametrize("what", [{"layers": "payload"}, {"mask": "ports"}])
def test_renderings_take_whole_packets_without_a_mask(what):
    with pytest.raises(ConfigError, match="'heifip-none' renders whole packets"):
        ReadingRules(layout="heifip-none", **what)


def test_models_read_a_dataset_of_renderings(tmp_path):
    write(tmp_path / "in/Benign/a.pcap")
    write(tmp_path / "in/Malware/b.pcap")
    rules = ReadingRules(layout="heifip-header")
    made = xt.open_dataset(convert([tmp_path / "in"], tmp_path / "out", rules=rules).dataset)
    check_dataset(tiny_config(made), made)
    assert made.images([0]).shape == (1, 128, 128)
    with pytest.raises(ConfigError, match="'packet' cannot be made of tiles of layout 'heifip-he"):
        made.images([0], "packet")
    with pytest.raises(DatasetError, match="has layout heifip-header"):
        convert([made.path], tmp_path / "masked", rules=ReadingRules(mask="ports"))


def test_any_bytes_have_a_rendering():
    random = np.random.default_rng(7)
    packets = [(link, packet) for link, made in MADE.items() for packet in made.values()]
    for _ in range(3000):
        link, packet = packets[random.integers(len(packets))]
        packet = bytearray(packet[: random.integers(len(packet) + 1)])
        for place in random.integers(0, max(1, len(packet)), random.integers(1, 5)):
            packet[place : place + 1] = random.bytes(1)
        for header in (False, True):
            made = render(bytes(packet), link, header, NOISE)
            assert all(first + count <= len(made.data) for first, count in made.random)


def test_a_message_of_pointers_takes_no_time():
    pointers = b"".join(struct.pack(">H", 0xC000 | 12 + 2 * n) for n in range(1, 8000))
    message = dns(30_000, body=pointers)
    started = time.monotonic()
    render(in_ip(udp(data=message), 17), ETHERNET, True, NOISE)
    assert time.monotonic() - started < 2


def golden_of_real(folder: pathlib.Path) -> dict:
    """Return what the golden file holds, made by the real heiFIP."""
    golden = {}
    for link, packets in MADE.items():
        capture = folder / f"{link}.pcap"
        capture.write_bytes(pcap(list(packets.values()), link=link))
        (pairs,) = real([capture], len(packets), rounds=6)
        for name, pair in zip(packets, pairs, strict=True):
            golden[name] = dict(zip(("none", "header"), pair, strict=True))
    return golden


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = golden_of_real(pathlib.Path(folder))
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(pair)}" for name, pair in made.items())
    (GOLDEN / "made.json").write_text("{\n" + lines + "\n}\n")
