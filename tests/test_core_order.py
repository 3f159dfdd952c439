"""Which segments both cores mark as seen before or as late, and which they leave out on request."""

import random

import capture_bytes as made
import numpy as np
import pytest
from both_cores import CORES, check_invariants, run

from xai_traffic.capture.records import CUT, DROPS, OUT_OF_ORDER, RETRANSMISSION

FIN, SYN, RST, ACK = 1, 2, 4, 16
AGAIN, LATE = RETRANSMISSION, OUT_OF_ORDER
TOP = 2**32


@pytest.fixture(params=CORES)
def core(request):
    return request.param


def segment(start: int, end: int, flags: int = ACK, back: bool = False, fill: int = 0) -> bytes:
    """Return a datagram with bytes of these sequence numbers; SYN and FIN have one beside."""
    ports, ends = (1000, 80), {}
    if back:
        ports, ends = (80, 1000), {"source": "10.0.0.2", "destination": "10.0.0.1"}
    data = bytes([fill]) * (end - start)
    return made.ipv4(made.tcp(*ports, flags=flags, sequence=start % TOP, data=data), **ends)


def flags_of(core, packets, **rules) -> list[int]:
    result = run(core, made.pcap(packets, link=101), **rules)
    check_invariants(result)
    return result.table()["flags"].tolist()


# name: [(first number, behind the last, wanted mark[, flags])]
CASES = {
    "in order": [(0, 10, 0), (10, 20, 0), (20, 21, 0)],
    "empty segments": [(0, 10, 0), (5, 5, 0), (10, 10, 0), (99, 99, 0), (10, 20, 0)],
    "whole again": [(0, 10, 0), (0, 10, AGAIN), (10, 20, 0), (10, 20, AGAIN)],
    "older again": [(0, 10, 0), (10, 20, 0), (20, 30, 0), (0, 10, AGAIN)],
    "part again": [(0, 10, 0), (2, 5, AGAIN), (10, 20, 0)],
    "again with more": [(0, 10, 0), (5, 15, AGAIN), (15, 20, 0)],
    "before the first": [(50, 60, 0), (40, 50, AGAIN), (60, 61, 0)],
    "gap filled": [(0, 10, 0), (20, 30, 0), (10, 20, LATE), (30, 40, 0)],
    "gap filled twice": [(0, 10, 0), (20, 30, 0), (10, 20, LATE), (10, 20, AGAIN)],
    "gap filled from below": [(0, 10, 0), (20, 30, 0), (10, 15, LATE), (10, 15, AGAIN)]
    + [(15, 20, LATE), (15, 20, AGAIN)],
    "gap filled from above": [(0, 10, 0), (20, 30, 0), (15, 20, LATE), (15, 20, AGAIN)]
    + [(10, 15, LATE), (10, 15, AGAIN)],
    "gap filled in the middle": [(0, 10, 0), (40, 50, 0), (20, 30, LATE)]
    + [(30, 40, AGAIN), (10, 20, LATE), (10, 20, AGAIN)],  # only the lower part is kept
    "gap filled by more than it": [(0, 10, 0), (20, 30, 0), (5, 25, LATE), (10, 20, AGAIN)],
    "gap filled, and new bytes": [(0, 10, 0), (20, 30, 0), (15, 45, LATE), (45, 50, 0)],
    "next to a gap": [(0, 10, 0), (20, 30, 0), (5, 10, AGAIN), (20, 25, AGAIN), (10, 20, LATE)],
    "two gaps": [(0, 10, 0), (20, 30, 0), (40, 50, 0), (30, 40, LATE), (10, 20, LATE)],
    "three gaps, the oldest forgotten": [(0, 10, 0), (20, 30, 0), (40, 50, 0), (60, 70, 0)]
    + [(10, 20, AGAIN), (30, 40, LATE), (50, 60, LATE)],
    "over both gaps": [(0, 10, 0), (20, 30, 0), (40, 50, 0), (10, 40, LATE)]
    + [(10, 20, AGAIN), (30, 40, LATE)],  # of the oldest only
    "a gap filled leaves room": [(0, 10, 0), (20, 30, 0), (40, 50, 0), (10, 20, LATE)]
    + [(60, 70, 0), (30, 40, LATE), (50, 60, LATE)],
    "over the top": [(TOP - 5, TOP + 5, 0), (TOP + 5, TOP + 10, 0), (TOP - 5, TOP + 5, AGAIN)]
    + [(TOP + 20, TOP + 30, 0), (TOP + 10, TOP + 20, LATE)],
    "a gap over the top": [(TOP - 20, TOP - 10, 0), (TOP + 10, TOP + 20, 0)]
    + [(TOP - 10, TOP + 10, LATE), (TOP - 10, TOP + 10, AGAIN)],
    "half the numbers ahead": [(0, 10, 0), (10 + 2**31 - 1, 20 + 2**31 - 1, 0)],
    "half the numbers behind": [(0, 10, 0), (10 + 2**31, 20 + 2**31, AGAIN)],
    "syn and fin take a number": [(7, 7, 0, SYN), (8, 10, 0), (10, 12, 0, FIN), (13, 14, 0)],
    "syn again": [(7, 7, 0, SYN), (7, 7, AGAIN, SYN), (8, 10, 0), (7, 7, AGAIN, SYN)],
    "fin again": [(7, 9, 0, FIN), (7, 9, AGAIN, FIN), (9, 9, AGAIN, FIN)],
    "resets do not count": [(0, 10, 0), (0, 10, 0, RST), (50, 60, 0, RST | ACK), (10, 20, 0)],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("back", [False, True])
def test_marks(core, case, back):
    steps = CASES[case]
    packets = [segment(start, end, *flags, back=back) for start, end, _, *flags in steps]
    assert flags_of(core, packets) == [mark for _, _, mark, *_ in steps]


def test_directions_and_sessions_are_apart(core):
    packets = [
        segment(0, 10),
        segment(0, 10, back=True),
        made.ipv4(made.tcp(1001, sequence=0, data=bytes(10))),
        segment(0, 10, SYN),  # another connection: nothing was sent in it yet
        segment(0, 10, back=True),
        segment(0, 10, SYN),
    ]
    assert flags_of(core, packets, rule="pcapsplitter") == [0] * 6
    assert flags_of(core, packets, rule="five_tuple") == [0, 0, 0, AGAIN, AGAIN, AGAIN]


def test_lengths_are_what_was_sent_not_what_was_captured(core):
    whole = segment(0, 1000)
    packets = [
        (0, 0, whole[:60], 1040),
        (0, 0, segment(1000, 1010)),
        (0, 0, whole[:60], 1040),
        (0, 0, whole[:39], 1040),  # the header is cut: dropped
        (0, 0, segment(1010, 1020)),
    ]
    result = run(core, made.pcap(packets, link=101))
    assert result.table()["flags"].tolist() == [CUT, 0, CUT | AGAIN, 0]
    # Without a total length the captured bytes are all that is known.
    offload = made.ipv4(made.tcp(sequence=0, data=bytes(20)), total=0)
    assert flags_of(core, [offload, segment(20, 30)]) == [0, 0]
    # IPv6, with an extension header between
    tcp = made.tcp(sequence=0, data=bytes(20))
    first = made.ipv6(b"\6\0" + bytes(6) + tcp, protocol=60)
    second = made.ipv6(made.tcp(sequence=20, data=bytes(5)))
    assert flags_of(core, [(0, 0, first[:70], 88), second, first]) == [CUT, 0, AGAIN]


def test_options_that_are_cut_take_no_part(core):
    lying = made.ipv4(made.tcp(sequence=0, words=8)[:24])
    assert flags_of(core, [lying, segment(90, 95), lying, segment(95, 99)]) == [0] * 4


def test_other_protocols_take_no_part(core):
    packet = made.ipv4(made.udp(data=b"same"), protocol=17)
    assert flags_of(core, [packet] * 3, retransmissions="drop") == [0] * 3


def drop_run(core, packets, **rules):
    result = run(core, made.pcap(packets, link=101), retransmissions="drop", **rules)
    check_invariants(result, limit=rules.get("limit", 64))
    dropped = dict(zip(DROPS, result.dropped, strict=True))
    assert sum(result.dropped) == dropped["retransmission"]
    return result


# name: (packets, frames that stay)
DROPPED = {
    "exact": ([segment(0, 9), segment(0, 9), segment(9, 12)], [1, 3]),
    "twice": ([segment(0, 9)] * 3, [1]),
    "other bytes": ([segment(0, 9), segment(0, 9, fill=1), segment(0, 9, fill=1)], [1, 2]),
    "part": ([segment(0, 9), segment(0, 5), segment(0, 5)], [1, 2]),
    "longer": ([segment(0, 9), segment(0, 12), segment(0, 12)], [1, 2]),
    "fills a gap": ([segment(0, 5), segment(9, 12), segment(5, 9), segment(5, 9)], [1, 2, 3]),
    "other flags": ([segment(0, 9), segment(0, 9, ACK | 8)], [1]),
    "fin added": ([segment(0, 9), segment(0, 9, ACK | FIN)], [1, 2]),
    "syn": ([segment(0, 0, SYN), segment(0, 0, SYN), segment(1, 3)], [1, 3]),
    "other direction": ([segment(0, 9), segment(0, 9, back=True)], [1, 2]),
    "empty": ([segment(0, 9), segment(9, 9), segment(9, 9), segment(0, 0)], [1, 2, 3, 4]),
    "reset": ([segment(0, 9), segment(0, 9, RST), segment(0, 9, RST)], [1, 2, 3]),
    "eighth latest": ([*(segment(n, n + 1) for n in range(8)), segment(0, 1)], [*range(1, 9)]),
    "ninth latest": (
        [*(segment(n, n + 1) for n in range(9)), segment(0, 1), segment(0, 1)],
        [*range(1, 11)],  # the first repetition counts as sent: the second is one of it
    ),
    "dropped ones do not count": (
        [*(segment(n, n + 1) for n in range(8)), *[segment(1, 2)] * 5, segment(0, 1)],
        [*range(1, 9)],
    ),
    "keep-alive": ([segment(0, 9), segment(8, 9), segment(8, 9)], [1, 2]),
}


@pytest.mark.parametrize("case", DROPPED)
def test_exact_repetitions_are_left_out(core, case):
    packets, frames = DROPPED[case]
    assert drop_run(core, packets).table()["frame"].tolist() == frames
    assert run(core, made.pcap(packets, link=101)).dropped == (0,) * len(DROPS)


def test_a_repetition_changes_nothing(core):
    """Neither counters nor times, nor what the session's rule has seen."""
    packets = [(0, 0, segment(0, 9, FIN | ACK)), (400, 0, segment(0, 9, FIN | ACK))]
    session = drop_run(core, packets).sessions()[0]
    names = ["packets", "bytes", "payload_bytes", "tiles", "last_time"]
    assert session[names].tolist() == (1, 49, 9, 1, 0)
    # pcapsplitter: the SYN that is left out is not the packet before the next one
    steps = [
        segment(0, 0, SYN),
        segment(1, 5),
        segment(50, 60),
        segment(50, 60),
        segment(0, 0, SYN),
    ]
    rows = drop_run(core, steps, rule="pcapsplitter").sessions()
    assert rows["packets"].tolist() == [3, 1]


def test_sessions_end_before_a_repetition_is_looked_for(core):
    packets = [(0, 0, segment(0, 9)), (11, 0, segment(0, 9)), (12, 0, segment(0, 9))]
    rows = drop_run(core, packets, idle_timeout_ns=10 * 10**9).sessions()
    assert rows["packets"].tolist() == [1, 1]
    packets = [(0, 0, segment(0, 0, SYN)), (6, 0, segment(0, 0, SYN)), (7, 0, segment(0, 0, SYN))]
    rows = drop_run(core, packets, rule="zeek").sessions()
    assert rows["packets"].tolist() == [1, 1]


def test_nfstream_clock_goes_on_with_what_is_left_out(core):
    udp = made.ipv4(made.udp(), protocol=17)
    packets = [(0, 0, udp), (0, 0, segment(0, 9)), (119, 0, segment(0, 9)), (10, 0, udp)]
    rows = drop_run(core, [*packets, (130, 0, udp)], rule="nfstream").sessions()
    # By the clock the second packet of UDP came at 119, so the third is not idle.
    assert rows["packets"].tolist() == [3, 1]


def test_a_segment_behind_the_limit_is_still_counted(core):
    packets = [segment(n, n + 1) for n in range(6)] + [segment(4, 5)]
    result = drop_run(core, packets, limit=2)
    assert sum(result.dropped) == 1


def test_a_transfer_out_of_order_ends_up_marked_once_each(core):
    """Each byte of a shuffled window is new, late, or seen before: by a count kept apart."""
    rng = random.Random(4)
    for _ in range(20):
        numbers = list(range(0, 400, 10))
        for at in rng.sample(range(len(numbers) - 1), 8):
            numbers[at], numbers[at + 1] = numbers[at + 1], numbers[at]
        base = rng.choice((0, TOP - 200))
        packets = [segment(base + n, base + n + 10) for n in numbers]
        flags = np.array(flags_of(core, packets))
        behind = [n < max(numbers[:index], default=-1) for index, n in enumerate(numbers)]
        first = numbers[0]  # what lies before the first segment seen is no gap
        wanted = [
            0 if not late else AGAIN if n < first else LATE
            for n, late in zip(numbers, behind, strict=True)
        ]
        assert flags.tolist() == wanted
