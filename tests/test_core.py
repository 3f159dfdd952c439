"""The two cores give the same bits on every capture, whole or in pieces, sound or broken."""

import pathlib
import random
import threading

import capture_bytes as made
import numpy as np
import pytest
from both_cores import C_CORE, CORES, _core, check_invariants, make_core, run

from xai_traffic.capture.filters import compile_filter
from xai_traffic.capture.reader import find_captures, open_chunks
from xai_traffic.capture.records import DROPS, FAULTS
from xai_traffic.capture.rules import DEFAULT_FILTER, LAYERS, SESSION_RULES
from xai_traffic.errors import CaptureError

FILTERS = ("", DEFAULT_FILTER, "not (port 53 or 80) or less 80", "ip6 or net 192.168.0.0/16")
SHAPES = ((256, 64), (744, 14), (50, 3))


def read_all(path: pathlib.Path) -> bytes:
    return b"".join(bytes(chunk) for chunk in open_chunks(path))


def real_captures(folder: pathlib.Path, largest: int) -> list[tuple[str, bytes]]:
    """Return the captures below the folder of up to `largest` bytes, those that can be opened."""
    found = []
    for name, path in find_captures([folder]):
        if pathlib.Path(path).stat().st_size > largest:
            continue
        try:
            found.append((name, read_all(path)))
        except CaptureError:  # a damaged compressed file: the reader's matter
            continue
    assert found
    return found


def draw_rules(rng: random.Random) -> dict:
    width, limit = rng.choice(SHAPES)
    return {
        "rule": rng.choice(SESSION_RULES),
        "layers": rng.choice(LAYERS),
        "filter": rng.choice(FILTERS),
        "width": width,
        "limit": limit,
        "idle_timeout_ns": rng.choice((0, 1, 10**9)),
        "max_open": rng.choice((0, 1, 3)),
    }


def draw_cuts(rng: random.Random, size: int) -> list[int]:
    if size < 3000 and rng.random() < 0.2:
        return [1] * size
    return [rng.choice((0, 1, 5, 40, 900)) for _ in range(rng.randrange(50))]


@pytest.mark.skipif(_core is None, reason="the C core was not built: no compiler")
@pytest.mark.parametrize("folder", ["hostile", "malware", "protocols", "ustc"])
def test_cores_agree_on_every_capture(captures, folder):
    rng = random.Random(folder)
    for name, data in real_captures(captures / folder, 1 << 30):
        plain = run("numpy", data, rule="connection")
        check_invariants(plain)
        assert run("c", data, draw_cuts(rng, len(data)), rule="connection") == plain, name
        if len(data) < 100_000 and rng.random() < 0.4:
            rules = draw_rules(rng)
            plain = run("numpy", data, **rules)
            check_invariants(plain, rules["width"], rules["limit"])
            assert run("c", data, **rules) == plain, (name, rules)


@pytest.mark.parametrize("core", CORES)
def test_cuts_make_no_difference(captures, core):
    rng = random.Random(5)
    for name, data in rng.sample(real_captures(captures / "hostile", 4000), 40):
        whole = run(core, data, rule="pcapsplitter")
        assert run(core, data, [1] * len(data), rule="pcapsplitter") == whole, name
        assert run(core, data, draw_cuts(rng, len(data)), rule="pcapsplitter") == whole, name


def random_packet(rng: random.Random) -> bytes:
    ends = dict(zip(("source", "destination"), rng.sample(("1", "2", "3"), 2), strict=True))
    segment = made.tcp(
        rng.choice((80, 1000)),
        rng.choice((80, 1000)),
        flags=rng.choice((2, 2, 16, 18)),
        sequence=rng.choice((1, 2)),
        words=rng.choice((5, 5, 8, 4)),
        data=bytes(rng.randrange(40)),
    )
    if rng.random() < 0.6:
        ends = {key: "10.0.0." + value for key, value in ends.items()}
        total = rng.choice((None, None, 0, 30, 9999))
        data = made.ipv4(segment, **ends, total=total, fragment=rng.choice((0, 0, 0x4000, 3)))
        kind = 0x0800
    else:
        ends = {key: "fd00::" + value for key, value in ends.items()}
        chain = 6
        for _ in range(rng.choice((0, 0, 1, 2, 18))):
            header = rng.choice((0, 43, 44, 51, 60))
            size = {44: 8, 51: 12}.get(header, 16)
            segment = bytes([chain, 1]) + bytes(size - 2) + segment
            chain = header
        length = rng.choice((None, None, 0, 30, 9999))
        data = made.ipv6(segment, **ends, protocol=chain, length=length)
        kind = 0x86DD
    tags = [rng.choice((0x8100, 0x88A8))] * rng.choice((0, 0, 1, 2, 8, 9))
    frame = made.ethernet(data, kind=kind, tags=tags)
    return frame[: rng.randrange(len(frame))] if rng.random() < 0.1 else frame


def random_capture(rng: random.Random) -> bytes:
    order = rng.choice("<>")
    if rng.random() < 0.4:
        records = [(rng.randrange(5), 7, random_packet(rng)) for _ in range(rng.randrange(20))]
        return made.pcap(records, order=order, magic=rng.choice((0xA1B2C3D4, 0xA1B23C4D)))
    resolution = made.option(9, rng.choice((b"\0", b"\6", b"\x09", b"\x15", b"\xa0")), order=order)
    parts = [made.section(order=order), made.interface(resolution, order=order)]
    for _ in range(rng.randrange(25)):
        kind = rng.randrange(8)
        if kind < 5:
            units = rng.getrandbits(rng.choice((40, 64)))
            parts.append(made.enhanced(random_packet(rng), units=units, order=order))
        elif kind == 5:
            parts.append(made.old_packet(random_packet(rng), order=order))
        else:
            parts.append(made.block(rng.choice((4, 5, 77)), bytes(rng.randrange(90)), order=order))
    return b"".join(parts)


def damage(rng: random.Random, data: bytes) -> bytes:
    data = bytearray(data)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\0\0\4\0", b"\0\4\0\0"))
        elif kind == 2 and len(data) > 8:
            del data[at : at + 4]
        elif len(data) > 300:
            del data[at:]
            data += b"\0" * 4
    return bytes(data)


@pytest.mark.skipif(_core is None, reason="the C core was not built: no compiler")
def test_cores_agree_on_damaged_captures():
    rng = random.Random(11)
    faults, drops = set(), np.zeros(len(DROPS), int)
    for _ in range(1500):
        data = damage(rng, random_capture(rng))
        rules = draw_rules(rng)
        plain = run("numpy", data, **rules)
        check_invariants(plain, rules["width"], rules["limit"])
        assert run("c", data, draw_cuts(rng, len(data)), **rules) == plain, (data.hex(), rules)
        faults.add(plain.fault[0])
        drops += plain.dropped
    assert faults == set(range(len(FAULTS) - 1)) and (drops[1:] > 0).all()


@pytest.mark.parametrize("core", CORES)
def test_ustc_prefixes_are_10658_sessions(captures, core):
    sessions = 0
    for _, path in find_captures([captures / "ustc" / "session_prefix"]):
        result = run(core, read_all(path), rule="five_tuple", filter=DEFAULT_FILTER)
        check_invariants(result)
        assert result.fault == (0, 0, 0)
        # The prefixes cut the last packet of a session, in rare cases within its headers.
        dropped = dict(zip(DROPS, result.dropped, strict=True))
        assert sum(result.dropped) == dropped["truncated header"]
        sessions += len(result.sessions())
    assert sessions == 10_658


@pytest.mark.parametrize("core", CORES)
def test_core_after_its_end(core):
    data = made.pcap([made.ethernet(made.ipv4(made.tcp()))])
    reader = make_core(core)
    tiles, packets, sessions = reader.feed(bytearray(data))
    assert (len(tiles), len(packets), len(sessions)) == (256, 56, 0)
    assert [len(part) for part in reader.finish()] == [0, 0, 128]
    assert [len(part) for part in reader.finish()] == [0, 0, 0]
    assert reader.packets == 1 and reader.fault == (0, 0, 0)


@pytest.mark.parametrize("core", [C_CORE])
def test_c_core_refuses_what_is_no_rule(core):
    code = compile_filter("tcp or port 80").code
    good = ("connection", "all", code, 256, 64, 0, 0)
    assert _core.Core(*good)
    bad = [
        (0, "flow"),
        (1, "link"),
        (3, 0),
        (3, 65_536),
        (4, 0),
        (5, -1),
        (6, -1),
        (2, code[:-1]),
        (2, code[24:]),  # takes more than there is
        (2, code[:48]),  # leaves two values
        (2, code[:24] * 65),
        (2, b"\x00" + code[1:]),
        (2, b"\x0a" + code[1:]),
        (2, compile_filter("ip").code * 2000),
        (2, bytes([6, 0, 4, 33]) + bytes(20)),  # a prefix longer than the address
        (2, bytes([5, 0, 5, 0]) + bytes(20)),
    ]
    for position, value in bad:
        arguments = list(good)
        arguments[position] = value
        with pytest.raises(ValueError):
            _core.Core(*arguments)
    with pytest.raises(TypeError):
        _core.Core(*good).feed("text")


@pytest.mark.parametrize("core", [C_CORE])
def test_c_core_serves_one_thread_at_a_time(core):
    records = made.pcap([made.ethernet(made.ipv4(made.tcp()))] * 20_000)
    reader = make_core(core)
    refused = []

    def feed():
        for _ in range(20):
            try:
                reader.feed(records)
            except RuntimeError as error:
                refused.append(error)

    threads = [threading.Thread(target=feed) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader.finish()
    assert all("another thread" in str(error) for error in refused)
