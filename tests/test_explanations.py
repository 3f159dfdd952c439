"""The explain verb: what it writes, that its numbers agree, and what it refuses."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
from explained_run import CLASSES, make_run, write_capture
from PIL import Image

from xai_traffic import explain
from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset
from xai_traffic.errors import CaptureError, RunError, XaiTrafficError
from xai_traffic.evaluation.classify import classify
from xai_traffic.models import build
from xai_traffic.report.explained import methods_for
from xai_traffic.report.explanations import explain_run
from xai_traffic.terminal import printable

MASK = "addresses+ports"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Explain a hostile capture once: (run, capture, what explain_run returned)."""
    folder = tmp_path_factory.mktemp("explain")
    run = make_run(folder / "run", mask=MASK)
    capture = write_capture(folder / "<img src=x>.pcap")
    written = explain_run(run, [capture], folder / "report", sessions=[0, 2])
    return run, capture, written


def lines_of(written):
    text = pathlib.Path(written["explanations"]).read_text("ascii")
    return [json.loads(line) for line in text.splitlines()]


def test_lines_hold_the_verdicts_of_classify(made):
    run, capture, written = made
    said = {verdict["session"]: verdict for verdict in classify(run, capture)}
    lines = lines_of(written)
    assert [line["session"] for line in lines] == [0, 2]
    for line in lines:
        assert {key: line[key] for key in said[line["session"]] if key != "capture"} == {
            key: value for key, value in said[line["session"]].items() if key != "capture"
        }
        assert line["target"] == line["label"] and line["truth"] is None and line["mask"] == MASK
        assert line["read"] == min(line["packets"], 16)


def test_every_explanation_carries_its_card(made):
    page = pathlib.Path(made[2]["report"]).read_text("utf-8")
    assert page.count("How far to believe it") == 2
    for line in lines_of(made[2]):
        for method in line["methods"].values():
            card, metrics = method["card"], method["metrics"]
            assert card["conclusion"].startswith(f"{card['grade']}: ")
            assert {"faithfulness", "gain", "padding"} <= metrics.keys()
            for check in card["checks"]:
                assert check["value"] == metrics[check["metric"]]
            grades = [check["grade"] for check in card["checks"]]
            assert card["grade"] == max(grades, key=explain.GRADES.index)
            says = card["conclusion"].split(": ", 1)[1].rstrip(".")
            assert says in {check["says"] for check in card["checks"]}


def test_all_metrics_are_measured_where_they_are_asked_for(made, tmp_path):
    run, capture, _ = made
    methods = ("gradient", "occlusion")
    written = explain_run(
        run, [capture], tmp_path / "why", sessions=[0], methods=methods, metrics=True
    )
    (line,) = lines_of(written)
    for name in methods:
        found = {
            key for key, value in line["methods"][name]["metrics"].items() if value is not None
        }
        # One session has no other to be compared with, and these methods no completeness.
        assert found == set(explain.METRICS) - {"input_dependence", "completeness"}
    assert "smooth randomisation" in pathlib.Path(written["report"]).read_text("utf-8")


def test_shares_of_a_line_add_up(made):
    for line in lines_of(made[2]):
        assert set(line["methods"]) == {"integrated_gradients", "grad_cam", "attention"}
        for name, method in line["methods"].items():
            total = sum(packet["share"] for packet in method["packets"])
            # Grad-CAM may find nothing that speaks for the verdict in any packet.
            assert total == pytest.approx(1, abs=1e-6) or (name == "grad_cam" and total == 0)
            fields = sum(field["share"] for field in method["fields"])
            assert fields == pytest.approx(total, abs=1e-6)
            assert (method["completeness_error"] is not None) == (name == "integrated_gradients")
        exact = line["methods"]["integrated_gradients"]
        # Random weights make a rough way from baseline to session: 50 nodes miss 1.3 logits.
        assert exact["completeness_error"] < 0.05
        net = sum(packet["net"] for packet in exact["packets"])
        assert net == pytest.approx(exact["rise"], abs=1e-4)


def test_packets_are_told_in_words(made):
    packets = lines_of(made[2])[0]["methods"]["integrated_gradients"]["packets"]
    assert [packet["packet"] for packet in packets] == [0, 1, 2, 3]
    assert [packet["frame"] for packet in packets] == [1, 2, 3, 4]
    assert packets[1]["direction"] == "server to client"
    assert "ClientHello" in packets[2]["description"]
    for packet in packets:
        for field in packet["fields"]:
            assert 0 <= field["start"] < field["end"] <= 256
            assert field["share"] <= packet["share"] + 1e-6


def test_the_model_is_explained_on_what_it_was_shown(made):
    run, capture, written = made
    sessions = run.read(capture)
    from xai_traffic import explain

    images = sessions.images(np.array([0]))
    values = run.explain(images, "integrated_gradients")
    lengths = sessions.packets["length"].to_numpy()[:4]
    expected = explain.byte_shares(values[0], lengths).packets()
    packets = lines_of(written)[0]["methods"]["integrated_gradients"]["packets"]
    np.testing.assert_allclose([packet["share"] for packet in packets], expected, atol=1e-4)


def test_methods_for_transformers_are_refused_for_other_models(made):
    run = dataclasses.replace(
        made[0], model=build("vgg19", len(CLASSES), variant="debug"), variables=None
    )
    run = dataclasses.replace(run, variables=run.model.init(jax.random.key(0)))
    for name in explain.ATTENTIVE:
        with pytest.raises(RunError, match=f"'{name}' explains transformers.* is vgg19"):
            methods_for(run, (name, "lrp_gamma"))
        assert name in methods_for(made[0], (name, "lrp_gamma"))
    assert methods_for(run, ("lrp_gamma", "gradient")) == ("gradient", "lrp_gamma")


def test_figures_are_pictures_of_their_size(made):
    names = sorted(path.name for path in pathlib.Path(made[2]["figures"]).iterdir())
    ends = ("attention", "attention_heads", "grad_cam", "integrated_gradients", "shares")
    assert names == [
        f"{number:02d}-session-{session}-{end}.png"
        for number, session in ((1, 0), (2, 2))
        for end in ends
    ]
    for name in names:
        with Image.open(made[2]["figures"] / name) as picture:
            assert min(picture.size) > 150
            assert len(np.unique(np.asarray(picture.convert("L")))) > 8


def test_pictures_show_the_rows_that_hold_packets(made):
    page = pathlib.Path(made[2]["report"]).read_text("utf-8")
    # The model reads two rows of packets, and no session here has more than one.
    assert "rows without packets are left out" in page
    for method, width in (("integrated_gradients", 8 + 8 * 144 + 8), ("grad_cam", 1238)):
        with Image.open(made[2]["figures"] / f"01-session-0-{method}.png") as picture:
            assert picture.size == (width, 50 + 144 + 8)


def test_bad_captures_cost_the_good_ones_nothing(made, tmp_path):
    run, capture, _ = made
    (tmp_path / "bad.pcap").write_bytes(b"no capture at all")
    written = explain_run(
        run, [capture, tmp_path / "bad.pcap"], tmp_path / "out", sessions=[1],
        methods=["gradient_x_input"],
    )  # fmt: skip
    assert [pathlib.Path(name).name for name, _ in written["failures"]] == ["bad.pcap"]
    assert [line["session"] for line in lines_of(written)] == [1]
    assert "not a capture" in pathlib.Path(written["report"]).read_text("utf-8")
    with pytest.raises(CaptureError, match="not a capture"):
        explain_run(run, [tmp_path / "bad.pcap"], tmp_path / "other")
    (tmp_path / "worse.pcap").write_bytes(b"")
    with pytest.raises(XaiTrafficError, match=r"bad\.pcap: not a capture.*; .*worse\.pcap: the fi"):
        explain_run(run, [tmp_path / "bad.pcap", tmp_path / "worse.pcap"], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_split_of_a_dataset_with_its_labels(tmp_path):
    run = make_run(tmp_path / "run", mask=MASK)
    folder = tmp_path / "captures" / "Benign"
    folder.mkdir(parents=True)
    write_capture(folder / f"{CLASSES[0]}.pcap", sessions=6)
    convert([folder], tmp_path / "data", rules=run.rules, split="random:0/0/100")
    dataset = open_dataset(tmp_path / "data")
    written = explain_run(
        run, [], tmp_path / "out", dataset=dataset.path, split="test", limit=2,
        methods=["gradient_x_input"],
    )  # fmt: skip
    lines = lines_of(written)
    assert len(lines) == 2 and all(line["truth"] == CLASSES[0] for line in lines)
    assert "the captured ones are not in it" in " ".join(
        pathlib.Path(written["report"]).read_text("utf-8").split()
    )
    with pytest.raises(RunError, match="other rules"):
        explain_run(make_run(tmp_path / "run"), [], tmp_path / "no", dataset=dataset)


def test_what_cannot_be_explained_is_refused(made, tmp_path):
    run, capture, written = made
    folder = pathlib.Path(written["report"]).parent
    with pytest.raises(RunError, match="--overwrite"):
        explain_run(run, [capture], folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(RunError, match=r"thesis\.txt"):
        explain_run(run, [capture], tmp_path / "mine", overwrite=True)
    with pytest.raises(RunError, match="no session 99"):
        explain_run(run, [capture], tmp_path / "out", sessions=[0, 99])
    with pytest.raises(RunError, match="'lime' is unknown"):
        explain_run(run, [capture], tmp_path / "out", methods=["lime"])
    stream = make_run(tmp_path / "run", layout="ustc28")
    with pytest.raises(RunError, match="layout 'tiles'"):
        explain_run(stream, [capture], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_from_a_capture_reaches_the_page_raw(made):
    page = pathlib.Path(made[2]["report"]).read_text("utf-8")
    assert "<script>alert" not in page and "<img src=x" not in page
    assert "&lt;script&gt;alert(2)" in page
    assert all(character.isprintable() or character in "\n\u00a0" for character in page)
    assert printable("\x1b[2J") in page
    lines = pathlib.Path(made[2]["explanations"]).read_bytes()
    assert lines.isascii() and b"\x1b" not in lines
