"""Names and masks of the layers around a session's own headers, on packets made of pieces."""

import dataclasses

import dpkt
import numpy as np
import pytest
from layered_examples import examples
from layered_packets import masked, to_row

from xai_traffic.capture.fields import describe, dissect
from xai_traffic.capture.masking import MASKS, apply_mask, hidden, parse_mask

EXAMPLES = examples()
COMBINATIONS = (
    *(mask for mask in MASKS if mask != "header"),
    "addresses+ports",
    "addresses+ports+ids+ttl+window+options",
    "ttl+payload",
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_byte_has_its_name(name):
    link, pieces = EXAMPLES[name]
    tile, row = to_row(link, pieces)
    at, wanted = 0, []
    for piece in pieces:
        wanted.append((piece.name, at, min(at + len(piece.data), 256)))
        at += len(piece.data)
    wanted = [span for span in wanted if span[1] < 256]
    assert [(field.name, field.start, field.end) for field in dissect(tile[0], row[0])] == wanted
    assert describe(tile[0], row[0]).startswith("client to server, ")


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("direction", [0, 1])
def test_masks_hide_every_layer(name, direction):
    link, pieces = EXAMPLES[name]
    tile, row = to_row(link, pieces, direction)
    length = int(row["length"][0])
    for mask in COMBINATIONS:
        wanted, marks = masked(pieces, parse_mask(mask), direction)
        out = apply_mask(tile, row, mask)[0]
        assert out.tobytes() == wanted[:256].ljust(256, b"\0"), mask
        assert hidden(tile, row, mask)[0, :length].tolist() == marks[:length], mask


@pytest.mark.parametrize("name", EXAMPLES)
def test_header_leaves_nothing_of_outer_layers(name):
    link, pieces = EXAMPLES[name]
    tile, row = to_row(link, pieces)
    out = apply_mask(tile, row, "header")[0]
    network, payload = int(row["network"][0]), int(row["payload"][0])
    assert not out[:network].any()
    # the session's version nibble, protocol and, of TCP, flags
    assert np.count_nonzero(out[network:payload]) == 2 + (int(row["protocol"][0]) == 6)
    assert (out[payload:] == tile[0, payload:]).all()


def test_any_cut_and_any_bytes_stay_within_the_tile():
    generator = np.random.default_rng(3)
    for link, pieces in EXAMPLES.values():
        tile, row = to_row(link, pieces)
        for _ in range(30):
            broken, cut = tile.copy(), row.copy()
            cut["length"] = generator.integers(0, int(row["length"][0]) + 1)
            for _ in range(generator.integers(0, 4)):
                broken[0, generator.integers(0, 256)] = generator.integers(0, 256)
            broken[0, int(cut["length"][0]) :] = 0
            fields = dissect(broken[0], cut[0])
            ends = [0, *(field.end for field in fields)]
            assert [field.start for field in fields] == ends[:-1]
            assert ends[-1] == int(cut["length"][0])
            for mask in COMBINATIONS[:5]:
                out, marks = apply_mask(broken, cut, mask), hidden(broken, cut, mask)
                assert (out[~marks] == broken[~marks]).all()
                assert not marks[0, int(cut["length"][0]) :].any()


def test_dpkt_finds_a_tunnels_ends_gone():
    tile, row = to_row(*EXAMPLES["gre"])
    out = apply_mask(tile, row, "addresses+ports+ids+ttl")[0, : row["length"][0]].tobytes()
    outer = dpkt.ethernet.Ethernet(out).data
    assert (outer.src, outer.dst, outer.ttl, outer.id) == (b"\1" * 4, b"\2" * 4, 0, 0)
    inner = dpkt.ip.IP(bytes(outer.data)[12:])  # behind GRE's key and sequence number
    assert (inner.src, inner.dst, inner.ttl, inner.id) == (b"\1" * 4, b"\2" * 4, 0, 0)
    assert (inner.data.sport, inner.data.dport, inner.data.data) == (0, 0, b"the payload!")


def test_groups_of_hosts_are_kept_in_outer_layers():
    link, pieces = EXAMPLES["vxlan"]
    groups = {"ip.dst#1": "ef010101", "eth.dst#1": "01005e010101", "eth.dst": "ffffffffffff"}
    changed = [
        dataclasses.replace(piece, data=bytes.fromhex(groups[piece.name]), mask="")
        if piece.name in groups
        else piece
        for piece in pieces
    ]
    tile, row = to_row(link, changed)
    wanted, _ = masked(changed, ("addresses",))
    assert apply_mask(tile, row, "addresses")[0, : len(wanted)].tobytes() == wanted
