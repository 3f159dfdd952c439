"""What the page's script unpacks: the same bytes, fields and shares that the lines tell."""

import base64
import json
import re
import zlib

import numpy as np
import pytest
from explained_run import HOST, make_run, write_capture

from xai_traffic import explain
from xai_traffic.report.explanations import explain_run
from xai_traffic.report.session_data import FULL, byte_levels

METHODS = ("gradient_x_input", "grad_cam")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Explain a hostile capture: the page, its lines, what its blocks hold."""
    folder = tmp_path_factory.mktemp("data")
    run = make_run(folder / "run", mask="addresses")
    capture = write_capture(folder / "hostile.pcap", sessions=3)
    written = explain_run(run, [capture], folder / "out", sessions=[0, 1, 2], methods=METHODS)
    page = written["report"].read_text("utf-8")
    lines = [json.loads(line) for line in written["explanations"].read_text().splitlines()]
    blocks = re.findall(r'<script type="application/json" class="data">("[^<]*")</script>', page)
    data = [json.loads(zlib.decompress(base64.b64decode(json.loads(one)))) for one in blocks]
    return run, capture, page, lines, data


def test_bytes_are_those_of_the_capture(made):
    run, capture, _, _, data = made
    from xai_traffic.capture.sessions import read_capture

    sessions = read_capture(capture)
    place = 0
    for one in data:
        raw = base64.b64decode(one["bytes"])
        for packet in one["packets"]:
            length = int(sessions.packets["length"][place].as_py())
            assert packet["length"] == length == packet["fields"][-1][1]
            assert raw[:length] == sessions.tiles[place, :length].tobytes()
            raw, place = raw[length:], place + 1
        assert not raw
        # Mask `addresses` hides two MAC and two IPv4 addresses of each packet, the first at once.
        assert one["hidden"][0] == [0, 12] and one["hidden"][1] == [26, 34]


def test_shares_agree_with_the_lines(made):
    _, _, _, lines, data = made
    for line, one in zip(lines, data, strict=True):
        assert [method["name"] for method in one["methods"]] == list(METHODS)
        assert one["leading"] == METHODS[0]
        for method in one["methods"]:
            told = line["methods"][method["name"]]
            assert method["grade"] == told["card"]["grade"]
            assert method["signed"] == (method["name"] == METHODS[0])
            for packet, share, fields in zip(
                told["packets"], method["packets"], method["fields"], strict=True
            ):
                assert share == pytest.approx(packet["share"], rel=1e-3, abs=1e-8)
                assert sum(fields) == pytest.approx(share, rel=1e-2, abs=1e-6)
            levels = np.frombuffer(base64.b64decode(method["levels"]), np.int8)
            assert len(levels) == len(base64.b64decode(one["bytes"]))
            # A level's square tells a byte's share to a few parts in a hundred of the largest.
            sizes = method["top"] * (levels / FULL) ** 2
            first = sizes[: one["packets"][0]["length"]].sum()
            assert first == pytest.approx(method["packets"][0], abs=0.02)
            assert (levels < 0).any() == method["signed"]


def test_layers_hold_all_fields(made):
    for one in made[4]:
        for packet in one["packets"]:
            bounds = [(first, end) for _, first, end in packet["layers"]]
            assert bounds[0][0] == 0 and bounds[-1][1] == len(packet["fields"])
            assert all(a[1] == b[0] for a, b in zip(bounds, bounds[1:], strict=False))
        assert packet["layers"][0][0] == "Ethernet"


def test_hostile_text_is_packed_as_text(made):
    _, _, page, _, data = made
    values = [value for packet in data[0]["packets"] for _, _, value in packet["fields"]]
    assert any("<script>alert(2)</script>\\x1b" in value for value in values)
    assert not any("\x1b" in value for value in values)
    assert HOST not in page


def test_levels_go_by_sign_and_root():
    levels = byte_levels(np.array([1.0, -1.0, 0.25, -1e-6, 0.0]))
    assert levels.dtype == np.int8 and levels.tolist() == [FULL, -FULL, 16, 0, 0]
    assert not byte_levels(np.zeros(3)).any()


def test_the_static_page_tells_the_leading_method(made):
    page, lines = made[2], made[3]
    for number, line in enumerate(lines):
        section = re.search(rf'<section class="session" id="s{number}".*?</section>', page, re.S)[0]
        listed = re.findall(rf'<tr id="s{number}-p\d+".*?</tr>', section, re.S)
        told = line["methods"][METHODS[0]]["packets"]
        assert len(listed) == len(told)
        for row, packet in zip(listed, told, strict=True):
            assert f">{packet['frame']}</td>" in row
            if packet["share"] >= 0.001:
                assert f"{100 * packet['share']:.1f}\u00a0%" in row
        assert all(f'data-method="{name}"' in section for name in METHODS)
        assert section.count('<pre class="hex">') == min(3, sum(p["share"] > 0 for p in told))
    assert set(explain.GRADES) >= set(re.findall(r'data-kind="card" data-value="(\w+)"', page))


def test_fifty_of_the_fullest_sessions_stay_under_five_megabytes(tmp_path):
    import dataclasses

    from capture_bytes import ethernet, ipv4, pcap, udp

    from xai_traffic.evaluation.classify import judge, verdicts
    from xai_traffic.report.explained import explain_sessions
    from xai_traffic.report.session_section import session_section

    rng = np.random.default_rng(0)
    packets = [ethernet(ipv4(udp(1, 9, data=rng.bytes(400)), protocol=17)) for _ in range(64)]
    (tmp_path / "full.pcap").write_bytes(pcap(packets))
    run = make_run(tmp_path / "run")
    sessions = run.read(tmp_path / "full.pcap")
    rows = np.arange(1)
    ((_, probabilities),) = judge(run, sessions, rows)
    (explained,) = explain_sessions(
        run, list(verdicts(run, sessions, rows, probabilities)), [None], [sessions.tiles],
        [sessions.packets], ("gradient_x_input", "grad_cam", "attention"), masked=False,
    )  # fmt: skip
    # Nothing packs worse than noise; a coarse map and one of packets stand beside it, as usual.
    noise = rng.standard_normal((128, 128)).astype(np.float32)
    maps = {
        "gradient_x_input": noise,
        "grad_cam": np.kron(np.abs(noise[:32, :32]), np.ones((4, 4))),
    }
    maps["attention"] = np.kron(np.abs(noise[:8, :8]), np.ones((16, 16)))
    lengths = explained.packets["length"]
    full = dataclasses.replace(
        explained,
        attributions=maps,
        shares={name: explain.byte_shares(one, lengths) for name, one in maps.items()},
        extent=(128, 128),
    )
    assert len(full.packets) == 64 and (lengths == 256).all()
    section = session_section(full, "s0", run.rules)
    assert 50 * len(section.encode()) < 4_900_000, len(section)
