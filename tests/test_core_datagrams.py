"""How long both cores know a fragmented datagram, and how much of it they hold."""

import capture_bytes as made
import pytest
from both_cores import CORES, check_invariants, make_core, run
from fragment_bytes import LAST, dropped, halves4, raw, v4

from xai_traffic.capture.records import DROPS


@pytest.fixture(params=CORES)
def core(request):
    return request.param


@pytest.mark.parametrize("seconds, kept", [(60, True), (61, False), (-60, True), (-61, False)])
def test_datagrams_live_for_a_minute(core, seconds, kept):
    first, last = halves4()
    start = 1000
    for packets in ((first, last), (last, first)):
        records = [(start, 0, packets[0]), (start + seconds, 0, packets[1])]
        result = run(core, made.pcap(records, link=101))
        check_invariants(result)
        assert dropped(result) == (0 if kept else 1)


def test_a_datagram_too_old_is_made_anew(core):
    first, last = halves4()
    records = [(0, 0, first), (61, 0, last), (62, 0, first), (121, 0, last), (122, 0, last)]
    result = run(core, made.pcap(records, link=101))
    check_invariants(result)
    # The entry of second 61 holds its fragment until 62, serves 121, and is too old at 122.
    assert result.table()["frame"].tolist() == [1, 2, 3, 4] and dropped(result) == 1


def test_at_most_64_fragments_of_a_datagram_wait(core):
    first, last = halves4()
    result = run(core, raw([*[last] * 66, first, last]), limit=100)
    check_invariants(result, limit=100)
    assert dropped(result) == 2
    assert result.table()["frame"].tolist() == [*range(1, 65), 67, 68]
    assert result.sessions()["packets"].tolist() == [66]


def test_at_most_4096_datagrams_are_known(core):
    first, last = halves4()
    others = [halves4(number=n, source="10.9.0.1") for n in range(4096)]
    fits = [first, *(one for one, _ in others[:4095]), last]
    result = run(core, raw(fits))
    assert dropped(result) == 0
    result = run(core, raw([first, *(one for one, _ in others), last]))
    check_invariants(result)
    assert dropped(result) == 1
    # What is made first goes first, with what waits in it; being met does not make it younger.
    waits = [last, *(two for _, two in others[:4095]), last, others[4095][1], first]
    result = run(core, raw(waits))
    check_invariants(result)
    assert dropped(result) == 2 + 1 + 4095
    assert len(result.table()) == 1


def test_floods_of_fragments_are_given_up_as_they_come(core):
    """Of 9,000 datagrams without a first fragment at most 4,096 wait, so all else is dropped."""
    reader = make_core(core)
    packets = [
        made.ipv4(bytes(8), protocol=17, fragment=3, number=n % 65_536, source=f"10.{n % 7}.0.1")
        for n in range(9_000)
    ]
    reader.feed(made.pcap(packets, link=101))
    assert dict(zip(DROPS, reader.dropped, strict=True))["fragment"] == 9_000 - 4_096
    reader.finish()
    assert dict(zip(DROPS, reader.dropped, strict=True))["fragment"] == 9_000


def test_held_bytes_are_bounded(core):
    big = bytes(65_000)
    parts = [v4(big, LAST, number=n, total=65_020) for n in range(300)]
    firsts = [halves4(number=n)[0] for n in range(300)]
    size = len(parts[0])
    result = run(core, raw([*parts, *firsts]), limit=1000)
    check_invariants(result, limit=1000)
    kept = (1 << 24) // size
    assert dropped(result) == 300 - kept
    assert result.table()["frame"].tolist()[: 2 * kept : 2] == list(range(1, kept + 1))
    # What is let go makes room again.
    result = run(core, raw([*parts[:kept], *firsts[:1], parts[299], firsts[299]]))
    assert dropped(result) == kept - 1
