"""Removals that leave valid packets: what they make, and that all methods take them."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest
from capture_bytes import ethernet, ipv4, ipv6, pcap, tcp, udp
from layered_examples import examples
from layered_packets import to_row
from oracle_sums import summed

from xai_traffic import explain
from xai_traffic.capture.fields import dissect
from xai_traffic.capture.images import images_of, tiles_of_images
from xai_traffic.capture.masking import hidden
from xai_traffic.capture.repair import plan_repair, repair
from xai_traffic.capture.sessions import read_capture
from xai_traffic.explain.players import masked_logits

RNG = np.random.default_rng(23)
PARAMS = (RNG.normal(size=(128 * 128, 3)) / 1e4).astype(np.float32)


def linear(params, x):
    return jnp.tanh(x.reshape(len(x), -1) @ params)


def session(number, count, host):
    """Yield the frames of a session of TCP or UDP, over IPv4 or IPv6, both ways."""
    four, port = number % 2 == 0, 2000 + number
    ends = (f"10.0.{host}.1", "10.9.9.9") if four else (f"fd00::{host}:1", "fd00::9")
    for packet in range(count):
        there = packet % 2 == 0
        ports = (port, 4433) if there else (4433, port)
        data = RNG.bytes(int(RNG.choice([0, 5, 33, 300])))
        if number % 4 < 2:
            inner, protocol = tcp(*ports, sequence=packet, data=data, words=6), 6
        else:
            inner, protocol = udp(*ports, data=data), 17
        source, destination = ends if there else ends[::-1]
        wrap = ipv4 if four else ipv6
        datagram = wrap(inner, source=source, destination=destination, protocol=protocol)
        frame = ethernet(summed(datagram), kind=0x0800 if four else 0x86DD)
        mac = bytes([2, 0, 0, 0, host, 1]), bytes([2, 9, 9, 9, 9, 9])
        yield b"".join(mac[::-1] if there else mac) + frame[12:]


@functools.cache
def read(path, host, mask="none"):
    frames = [f for k in range(12) for f in session(k, 2 + k % 5, host + k)]
    path.write_bytes(pcap(frames))
    sessions = read_capture(path, mask=mask)
    return explain.traffic_of(sessions, np.arange(len(sessions))), sessions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("captures")


@pytest.fixture
def traffic(folder):
    return read(folder / "a.pcap", 1)[0]


@pytest.fixture
def pool(folder):
    return read(folder / "b.pcap", 100)[0]


def groups_of(traffic):
    lengths = np.split(traffic.packets["length"], np.cumsum(traffic.counts)[:-1])
    return np.stack([explain.packet_groups(own) for own in lengths])


def random_keep(groups, count):
    """Return masks over random sessions' packets, as a removal gets them."""
    rows = RNG.integers(0, len(groups), count)
    masks = np.pad(RNG.random((count, 64)) < 0.5, ((0, 0), (0, 1)), constant_values=True)
    keep = np.stack([mask[own] for mask, own in zip(masks, groups[rows], strict=True)])
    return rows, masks, keep


def assert_valid(tile, row):
    """Hold a packet that its tile holds whole to dpkt's sums; longer ones must look like it."""
    network = int(row["network"])
    size = 2 if tile[network] >> 4 == 4 else 4
    said = int.from_bytes(tile[network + size : network + size + 2].tobytes(), "big")
    end = network + said + (0 if size == 2 else 40)
    if end <= 256:
        datagram = tile[network:end].tobytes()
        assert summed(datagram) == datagram
        assert not tile[end:].any()
    return end


def test_traffic_is_what_the_images_are_made_of(folder, traffic):
    sessions = read(folder / "a.pcap", 1)[1]
    np.testing.assert_array_equal(traffic.images()[..., 0], sessions.images())
    some = explain.traffic_of(sessions, [3, 0])
    np.testing.assert_array_equal(some.images()[..., 0], sessions.images([3, 0]))
    np.testing.assert_array_equal(some.sessions, np.repeat([0, 1], some.counts))
    assert len(some) == 2


def test_closed_up_images_are_those_of_the_shorter_session(traffic):
    rows, masks, keep = random_keep(groups_of(traffic), 40)
    images = explain.closed_up(traffic)(rows, keep)
    first = np.cumsum(traffic.counts) - traffic.counts
    for row, mask, image in zip(rows, masks, images, strict=True):
        own = traffic.tiles[first[row] :][: traffic.counts[row]]
        left = own[mask[: len(own)]]
        np.testing.assert_array_equal(image[..., 0], images_of(left, [0], [len(left)])[0])


def test_drawn_packets_belong_and_are_valid(traffic, pool):
    tiles, found = explain.draw_packets(traffic, pool, seed=3)
    assert found.all()
    for tile, own, row in zip(tiles, traffic.tiles, traffic.packets, strict=True):
        end = assert_valid(tile, row)
        there = {**dict(zip(row.dtype.names, row, strict=True)), "length": min(end, 256)}
        there["payload"] = min(int(row["transport"]) + (8 if row["protocol"] == 17 else 24), end)
        drawn, old = (
            {f.name: data[f.start : f.end].tobytes() for f in dissect(data, meta)}
            for data, meta in ((tile, there), (own, row))
        )
        same = [name for name in old if name.endswith((".src", ".dst", "port", ".type", ".nxt"))]
        assert len(same) >= 6
        for name in same:  # addresses and ports tell protocol and direction too
            assert drawn[name] == old[name]
    assert (tiles != traffic.tiles).any(1).mean() > 0.7  # two empty packets may be the same
    again, _ = explain.draw_packets(traffic, pool, seed=3)
    np.testing.assert_array_equal(again, tiles)
    other, _ = explain.draw_packets(traffic, pool, seed=3, draw=1)
    assert (other != tiles).any()


def test_whole_packets_are_replaced_by_the_drawn_ones(traffic, pool):
    rows, masks, keep = random_keep(groups_of(traffic), 30)
    (removal,) = explain.drawn_packets(traffic, pool, seed=5)
    drawn, _ = explain.draw_packets(traffic, pool, seed=5)
    first = np.cumsum(traffic.counts) - traffic.counts
    dense = tiles_of_images(removal(rows, keep)[..., 0])
    for row, mask, tiles in zip(rows, masks, dense, strict=True):
        span = slice(first[row], first[row] + traffic.counts[row])
        kept = mask[: traffic.counts[row], None]
        np.testing.assert_array_equal(
            tiles[: len(kept)], np.where(kept, traffic.tiles[span], drawn[span])
        )
        assert not tiles[len(kept) :].any()


@pytest.mark.parametrize("way", ["windows", "fields", "names"])
def test_packets_without_some_bytes_are_valid(traffic, pool, way):
    row = 1
    first = int(traffic.counts[:row].sum())
    numbers = np.arange(first, first + traffic.counts[row])
    lengths = traffic.packets["length"][numbers]
    if way == "windows":
        groups, _ = explain.window_groups(lengths, 16)
        (removal,) = explain.drawn_packets(traffic, pool)
    else:
        fields = [dissect(traffic.tiles[n], traffic.packets[n]) for n in numbers]
        groups, _, _ = explain.field_groups(fields, together=way == "names")
        (removal,) = explain.drawn_fields(traffic, pool)
    changed = 0
    for mask in RNG.random((50, groups.max() + 1)) < 0.6:
        keep = np.append(mask, True)[groups]
        tiles = tiles_of_images(removal(np.array([row]), keep[None])[..., 0])[0]
        for number, tile in zip(numbers, tiles, strict=False):
            meta = traffic.packets[number]
            assert_valid(tile, meta)
            changed += (tile != traffic.tiles[number]).any()
            before = [f for f in dissect(traffic.tiles[number], meta) if f.end <= meta["transport"]]
            assert [f for f in dissect(tile, meta) if f.end <= meta["transport"]] == before
    assert changed > 20


def test_an_endpoint_is_the_same_in_all_packets_of_a_session(traffic, pool):
    (removal,) = explain.drawn_fields(traffic, pool, seed=1)
    rows = np.arange(len(traffic))
    keep = groups_of(traffic) < 0
    dense = tiles_of_images(removal(rows, keep)[..., 0])
    for row, tiles in enumerate(dense):
        own = tiles[: traffic.counts[row]]
        first = int(traffic.counts[:row].sum())
        metas = traffic.packets[first : first + len(own)]
        ends = set()
        for tile, meta in zip(own, metas, strict=True):
            values = {f.name: tile[f.start : f.end].tobytes() for f in dissect(tile, meta)}
            names = ["ip.src", "ip.dst"] if "ip.src" in values else ["ipv6.src", "ipv6.dst"]
            pair = [values[name] for name in names]
            ends.add(tuple(pair[::-1] if meta["direction"] else pair))
        assert len(ends) == 1


@pytest.mark.parametrize("mask", ["addresses+ports", "ids", "addresses+ids+options"])
def test_what_is_hidden_stays_hidden(folder, mask):
    plain = read(folder / "a.pcap", 1)[0]
    traffic, pool = (
        read(folder / name, host, mask)[0] for name, host in (("a.pcap", 1), ("b.pcap", 100))
    )
    veiled = hidden(plain.tiles, plain.packets, mask)
    plain_drawn, _ = explain.draw_packets(plain, read(folder / "b.pcap", 100)[0])
    drawn, found = explain.draw_packets(traffic, pool)
    assert found.all() and (drawn != plain_drawn).any()
    places = np.arange(256) < np.minimum(plain.packets["transport"] + 20, 256)[:, None]
    same = veiled & places & (plain.packets["protocol"] == 6)[:, None]
    np.testing.assert_array_equal(drawn[same], traffic.tiles[same])
    (removal,) = explain.drawn_fields(traffic, pool)
    keep = groups_of(traffic) < 0
    made = tiles_of_images(removal(np.arange(len(traffic)), keep)[..., 0])
    for row in range(len(traffic)):
        span = slice(int(traffic.counts[:row].sum()), int(traffic.counts[: row + 1].sum()))
        own = made[row][: traffic.counts[row]]
        np.testing.assert_array_equal(own[veiled[span]], traffic.tiles[span][veiled[span]])


@pytest.mark.parametrize("name", ["vxlan", "gtp", "gre", "6in4", "mpls", "provider tag", "snap"])
def test_drawn_packets_in_tunnels_have_their_own_lengths_and_the_session_s_ends(name):
    link, pieces = examples()[name]
    tile, row = to_row(link, pieces)
    size, grown, other = int(row["length"][0]), 6, tile.copy()
    other[0, size : size + grown] = 77
    for at in _starts(pieces, "ip.src", "ip.dst", "ipv6.src", "eth.src", "vlan.id", "tcp.srcport"):
        other[0, at + 1] ^= 0x0F
    other = repair(plan_repair(tile, row), other, np.array([grown]))
    longer = row.copy()
    for column in ("length", "captured", "wire"):
        longer[column] += grown
    traffic = explain.Traffic(tile, row, np.array([1]))
    (drawn,), found = explain.draw_packets(traffic, explain.Traffic(other, longer, np.array([1])))
    assert found.all()
    lengths = _starts(pieces, "ip.len", "ipv6.plen", "udp.length", "eth.len")
    for piece, at in zip(pieces, _starts(pieces), strict=True):
        own = slice(at, at + len(piece.data))
        if at in lengths:
            np.testing.assert_array_equal(drawn[own], other[0, own])
        elif "checksum" not in piece.name and piece.name != "payload":
            np.testing.assert_array_equal(drawn[own], tile[0, own])
    np.testing.assert_array_equal(drawn[size : size + grown], 77)


def _starts(pieces, *names):
    ends = np.cumsum([len(piece.data) for piece in pieces])
    starts = [int(end) - len(piece.data) for end, piece in zip(ends, pieces, strict=True)]
    return [
        start
        for start, piece in zip(starts, pieces, strict=True)
        if not names or piece.name.partition("#")[0] in names
    ]


def zero_fill(traffic):
    images = traffic.images()
    return lambda rows, keep: np.where(keep, images[rows], 0).astype(np.uint8)


def methods(traffic):
    """Yield each method over players as a function of its options, which returns arrays."""
    x, groups = np.float32(traffic.images()), groups_of(traffic)
    scores = RNG.normal(size=(len(x), groups.max() + 1))
    args = linear, PARAMS, x, groups
    for name in ("exact_shapley", "kernel_shap"):
        method = getattr(explain, name)
        yield name, lambda method=method, **o: method(*args, 1, **o).values
    unions = np.arange(groups.max() + 1) // 2
    yield "owen_values", lambda **o: explain.owen_values(*args, unions, 1, **o).values
    yield "occlusion", lambda **o: explain.occlusion(*args, 1, **o)
    yield "rise", lambda **o: explain.rise(*args, 1, samples=50, **o)[0]
    yield "deletion", lambda **o: explain.deletion_curves(*args, scores, 1, **o).gain()
    yield "flipping", lambda **o: np.concatenate(explain.pixel_flipping(*args, scores, 1, **o))
    for name in ("comprehensiveness", "sufficiency"):
        method = getattr(explain, name)
        yield name, lambda method=method, **o: method(*args, scores, 1, **o)[0]
    yield (
        "sensitivity_n",
        lambda **o: np.nan_to_num(explain.sensitivity_n(*args, scores, [1], 1, samples=9, **o)),
    )
    yield (
        "counterfactual",
        lambda **o: [dataclasses.astuple(c) for c in explain.counterfactual(*args, **o)],
    )
    masks = RNG.random((9, groups.max() + 1)) < 0.5
    yield "logits", lambda **o: np.stack(masked_logits(*args, masks, **o))


def test_every_method_takes_a_removal_in_place_of_the_baseline(folder, pool):
    traffic = explain.traffic_of(read(folder / "a.pcap", 1)[1], [0, 1, 2, 7])
    zero = zero_fill(traffic)
    for name, method in methods(traffic):
        expected = method()
        for removal in (zero, [zero, zero]):
            found = method(removal=removal)
            if name == "counterfactual":
                assert found == expected
            else:
                np.testing.assert_array_equal(found, expected)
        for removal in (explain.closed_up(traffic), explain.drawn_packets(traffic, pool)):
            found = method(removal=removal, memory_budget=1 << 20)
            assert name == "counterfactual" or (np.asarray(found) != expected).any()


def test_several_draws_are_the_mean_of_their_logits(traffic, pool):
    removals = explain.drawn_packets(traffic, pool, draws=3)
    x, groups = traffic.images(), groups_of(traffic)
    found = explain.occlusion(linear, PARAMS, x, groups, 0, removal=removals)
    each = [explain.occlusion(linear, PARAMS, x, groups, 0, removal=one) for one in removals]
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-6)
    assert (each[0] != each[1]).any()


def test_packets_without_a_like_in_the_pool_become_zeros(traffic, pool):
    chosen = pool.packets["protocol"] == 17
    udp_only = explain.Traffic(
        pool.tiles[chosen], pool.packets[chosen], np.array([chosen.sum()]), pool.mask
    )
    tiles, found = explain.draw_packets(traffic, udp_only)
    np.testing.assert_array_equal(found, traffic.packets["protocol"] == 17)
    assert not tiles[~found].any() and tiles[found].any(1).all()


def test_what_does_not_fit_is_refused(traffic, pool, folder):
    x, groups = traffic.images(), groups_of(traffic)
    closed = explain.closed_up(traffic)
    for options, message in (
        ({"removal": closed, "baseline": 1.0}, "name one of them"),
        ({"removal": []}, "no removals"),
        ({"removal": explain.closed_up(pool)}, "something else than x"),
    ):
        with pytest.raises(ValueError, match=message):
            explain.occlusion(linear, PARAMS, x, groups, 0, **options)
    windows, _ = explain.window_groups(traffic.packets["length"][: traffic.counts[0]], 20)
    with pytest.raises(ValueError, match="whole packets"):
        one = explain.traffic_of(read(folder / "a.pcap", 1)[1], [0])
        explain.occlusion(linear, PARAMS, x[:1], windows, 0, removal=explain.closed_up(one))
    masked = read(folder / "a.pcap", 1, "ids")[0]
    for make in (explain.drawn_packets, explain.drawn_fields):
        with pytest.raises(ValueError, match="mask"):
            make(traffic, masked)
        with pytest.raises(ValueError, match="at least 1"):
            make(traffic, pool, draws=0)
    with pytest.raises(ValueError, match="fields of 0"):
        explain.drawn_fields(traffic, pool, fields=[])
    with pytest.raises(ValueError, match="do not fit"):
        explain.Traffic(traffic.tiles, traffic.packets[1:], traffic.counts)
    with pytest.raises(ValueError, match="images"):
        closed(np.array([0]), np.ones((1, 4), bool))
    with pytest.raises(ValueError, match="not packets"):
        explain.traffic_of(read_capture(folder / "a.pcap", layout="ustc28"), [0])
