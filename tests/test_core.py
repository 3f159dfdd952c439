"""The two cores give the same bits on every capture, whole or in pieces, sound or broken."""

import pathlib
import random
import threading

import capture_bytes as made
import numpy as np
import pytest
from both_cores import C_CORE, CORES, _core, check_invariants, make_core, run
from random_captures import damage, draw_cuts, draw_rules, random_capture

from xai_traffic.capture.filters import compile_filter
from xai_traffic.capture.reader import find_captures, open_chunks
from xai_traffic.capture.records import (
    CUT,
    DROPS,
    ENDS,
    FAULTS,
    FRAGMENT,
    OUT_OF_ORDER,
    RETRANSMISSION,
    TUNNELS,
)
from xai_traffic.capture.rules import DEFAULT_FILTER
from xai_traffic.errors import CaptureError


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
            check_invariants(plain, rules["width"], rules["limit"], rules["early"])
            assert run("c", data, **rules) == plain, (name, rules)


@pytest.mark.parametrize("core", CORES)
def test_cuts_make_no_difference(captures, core):
    rng = random.Random(5)
    for name, data in rng.sample(real_captures(captures / "hostile", 4000), 40):
        whole = run(core, data, rule="pcapsplitter")
        assert run(core, data, [1] * len(data), rule="pcapsplitter") == whole, name
        assert run(core, data, draw_cuts(rng, len(data)), rule="pcapsplitter") == whole, name


@pytest.mark.skipif(_core is None, reason="the C core was not built: no compiler")
def test_cores_agree_on_damaged_captures():
    rng = random.Random(11)
    faults, drops = set(), np.zeros(len(DROPS), int)
    ends, tunnels, flags = set(), set(), set()
    for _ in range(3000):
        data = damage(rng, random_capture(rng))
        rules, cuts = draw_rules(rng), draw_cuts(rng, len(data))
        expire = rng.choice((None, None, None, rng.randrange(99_000, 110_000) * 10**9))
        early = rules["early"] or expire is not None
        plain = run("numpy", data, cuts, expire=expire, **rules)
        check_invariants(plain, rules["width"], rules["limit"], early)
        assert run("c", data, cuts, expire=expire, **rules) == plain, (data.hex(), rules)
        faults.add(plain.fault[0])
        drops += plain.dropped
        ends |= set(plain.sessions()["end"].tolist())
        tunnels |= set(plain.table()["tunnel"].tolist())
        flags |= set(plain.table()["flags"].tolist())
    # Whatever a core can say, it said.
    assert faults == set(range(len(FAULTS) - 1)) and (drops > 0).all()
    assert ends == set(range(len(ENDS))) and tunnels == set(range(len(TUNNELS)))
    single = {CUT, RETRANSMISSION, OUT_OF_ORDER, FRAGMENT, 0}
    assert flags >= single


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
    good = ("connection", "all", code, 256, 64, 0, 0, "inner", "keep", False)
    assert _core.Core(*good) and _core.Core(*good[:7])
    bad = [
        (0, "flow"),
        (1, "link"),
        (3, 0),
        (3, 65_536),
        (4, 0),
        (5, -1),
        (6, -1),
        (7, "both"),
        (8, "mark"),
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
