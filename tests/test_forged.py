"""Scores of forged splits: what is known to be read from a field is lost with it, and no more."""

import json
import pathlib
import types

import numpy as np
import pytest
from small_dataset import make_dataset

from xai_traffic.capture.forging.endpoints import endpoints_of
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.cli import main
from xai_traffic.data.build import convert
from xai_traffic.data.derive import derive
from xai_traffic.data.folder import manifest_sha256
from xai_traffic.data.store import open_dataset
from xai_traffic.errors import ConfigError, RunError
from xai_traffic.evaluation.forged import (
    evaluate_forged,
    forge_rows,
)
from xai_traffic.lab.write import write_lab
from xai_traffic.report import evaluation as reporting

TTL = 22  # of the first packet: row 1, column 6 of the image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forged")
    write_lab(folder / "lab", plant="ttl", sessions_per_family=40, families=("web",))
    for layout in ("tiles", "ustc28"):
        rules = ReadingRules(layout=layout)
        convert([folder / "lab"], folder / layout, rules=rules, workers=1, split="random:50/0/50")
    derive(open_dataset(folder / "tiles"), folder / "masked", "ttl+ids")
    return folder


def reads_ttl(dataset, path=pathlib.Path("run")):
    """Return a run that knows the time to live of each class, and nothing else."""
    classes = dataset.classes
    first = dataset.tiles[dataset.first_tiles, TTL]
    known = {value: dataset.labels[first == value][0] for value in set(first.tolist())}

    def predict(images):
        places = [known.get(int(value), 0) for value in images[:, 1, 6]]
        return np.eye(len(classes), dtype=np.float32)[places]

    return types.SimpleNamespace(
        path=path,
        config=types.SimpleNamespace(data=types.SimpleNamespace(path=dataset.path)),
        task="multiclass",
        rules=dataset.rules,
        classes=list(classes),
        dataset={"path": str(dataset.path), "manifest_sha256": manifest_sha256(dataset.manifest)},
        predict=predict,
        calibration=None,
        step=7,
    )


def test_what_rests_on_a_field_is_lost_with_it_alone(folder):
    dataset = open_dataset(folder / "tiles")
    names = ["addresses", "ports", "times", "sequence", "ttl", "all", "ttl+ttl"]
    found = evaluate_forged(reads_ttl(dataset), dataset, names)
    drops = {row["forgery"]: row["drop"] for row in found["forgeries"]}
    assert list(drops) == ["addresses", "ports", "times", "sequence", "ttl", "all"]
    assert found["unforged"]["accuracy"]["value"] == 1
    for name, drop in drops.items():
        for score in ("accuracy", "macro_f1"):
            if name in ("ttl", "all"):
                assert drop[score]["value"] > 0.3 and drop[score]["low"] > 0.1
            else:
                assert set(drop[score].values()) == {0.0}
    for row in found["forgeries"]:
        assert row["accuracy"]["value"] == pytest.approx(1 - row["drop"]["accuracy"]["value"])
        assert row["changed_packets"] == 1
    for key in ("sessions", "units", "split", "mask", "leaky", "checksums", "seed"):
        assert key in found


def test_nothing_is_lost_where_the_mask_hides_it(folder):
    dataset = open_dataset(folder / "masked")
    found = evaluate_forged(reads_ttl(dataset), dataset, ["ttl", "addresses"])
    ttl, addresses = found["forgeries"]
    assert ttl["changed_packets"] == 0 and addresses["changed_packets"] == 1
    assert set(ttl["drop"]["accuracy"].values()) == {0.0} and ttl["changed_verdicts"] == 0


def test_the_network_is_the_seeds(folder):
    dataset = open_dataset(folder / "tiles")
    told = [evaluate_forged(reads_ttl(dataset), dataset, ["ttl"], seed=seed) for seed in (0, 0, 1)]
    assert told[0] == told[1] and told[2]["seed"] == 1
    rows = dataset.rows("test")
    tiles = [
        forge_rows(dataset, rows, endpoints_of(dataset.table, seed), "ttl").tiles
        for seed in (0, 0, 1)
    ]
    assert (tiles[0] == tiles[1]).all() and (tiles[0] != tiles[2]).any()


def test_what_cannot_be_forged_is_refused(folder, tmp_path):
    stream = open_dataset(folder / "ustc28")
    with pytest.raises(ConfigError, match="has layout 'ustc28', .* --layout tiles"):
        evaluate_forged(reads_ttl(stream), stream, ["ttl"])
    dataset = open_dataset(folder / "tiles")
    with pytest.raises(ConfigError, match="'speed' is unknown"):
        evaluate_forged(reads_ttl(dataset), dataset, ["ttl", "speed"])
    with pytest.raises(ConfigError, match="no forgery is named"):
        evaluate_forged(reads_ttl(dataset), dataset, [])
    rules = ReadingRules(layers="payload")
    convert([folder / "lab"], tmp_path / "payload", rules=rules, workers=1, split="random:50/0/50")
    payload = open_dataset(tmp_path / "payload")
    with pytest.raises(ConfigError, match="begin behind the IP header .* 'repaired'"):
        evaluate_forged(reads_ttl(payload), payload, ["ttl"], checksums="offloaded")
    small = make_dataset(tmp_path / "small", sessions=9)
    with pytest.raises(RunError, match="no sessions in split 'test'"):
        evaluate_forged(reads_ttl(small), small, ["ttl"])


def test_what_is_drawn_are_units_of_the_split(folder):
    dataset = open_dataset(folder / "tiles")
    found = evaluate_forged(reads_ttl(dataset), dataset, ["ttl"])
    assert found["units"] == found["sessions"] and found["unit"] == "5-tuple of a capture"
    dataset.manifest["split"] = "capture:50/0/50"
    wide = evaluate_forged(reads_ttl(dataset), dataset, ["ttl"])
    assert (wide["units"], wide["unit"]) == (2, "capture")
    reach = [
        one["forgeries"][0]["drop"]["accuracy"]["high"]
        - one["forgeries"][0]["drop"]["accuracy"]["low"]
        for one in (found, wide)
    ]
    assert reach[0] < reach[1]


def test_the_command_prints_and_writes(folder, tmp_path, monkeypatch, capsys):
    from xai_traffic.training import run as runs

    dataset = open_dataset(folder / "tiles")
    monkeypatch.setattr(runs, "load_run", lambda _: reads_ttl(dataset, tmp_path))
    assert main(["evaluate", "RUN", "--forge", "ttl,addresses+ports", "--json"]) == 0
    shown = capsys.readouterr()
    printed = json.loads(shown.out)
    assert printed == json.loads((tmp_path / "forged-test.json").read_text())
    assert [row["forgery"] for row in printed["forgeries"]] == ["ttl", "addresses+ports"]
    assert (tmp_path / "forged-test.png").stat().st_size > 1000
    lines = shown.err.splitlines()
    (line,) = [line for line in lines if "addresses+ports" in line]
    assert "0.00 (0.00, 0.00)" in line and any("unforged" in line for line in lines)
    assert main(["evaluate", "RUN", "--forge", "ttl", "--checksums", "offloaded"]) == 0
    assert "checksums offloaded" in capsys.readouterr().out


def test_a_leaky_number_says_so(folder, tmp_path, monkeypatch):
    dataset = open_dataset(folder / "tiles")
    run = reads_ttl(dataset, tmp_path)
    monkeypatch.setattr(type(dataset), "leaky", lambda self, task: ["hosts straddle"])
    marked = []
    monkeypatch.setattr(reporting, "mark_leaky", lambda figure, split: marked.append(split))
    result, _ = reporting.write_forged(run, ["ttl"])
    assert result["leaky"] == ["hosts straddle"] and marked == ["test"]


@pytest.mark.parametrize(
    "options",
    [
        ["--seed", "1"],
        ["--checksums", "repaired"],
        ["--forge", "ttl", "--explanations"],
        ["--forge", "ttl", "--checksums", "broken"],
    ],
)
def test_wrong_usage_is_status_2(options, capsys):
    try:
        status = main(["evaluate", "RUN", *options])
    except SystemExit as leaving:
        status = leaving.code
    assert status == 2 and capsys.readouterr().err
