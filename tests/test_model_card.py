"""A model card tells what was measured, says what was not, and lets no name be markup."""

import hashlib
import json
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from small_dataset import make_dataset, tiny_config

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.cli import main
from xai_traffic.data.build import convert
from xai_traffic.errors import RunError
from xai_traffic.evaluation.run_record import read_run_record
from xai_traffic.lab.write import write_lab
from xai_traffic.report.markdown import code, part_of, percent, table
from xai_traffic.report.model_card import model_card, write_model_card
from xai_traffic.report.model_card_data import captures_sha256
from xai_traffic.training.loop import train

HOSTILE = ["Htbot <b>", "`|`", "| x | [a](http://evil) \\", "<script>\n# no", "**b** \x1b[31m"]


def rendered(markdown):
    return MarkdownIt("commonmark").enable("table").render(markdown)


def section(card, title):
    """Return what stands below a heading, up to the next one."""
    return re.split(r"^##+ ", card.partition(f"# {title}\n")[2], flags=re.M)[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a lab's captures, which have all that a card tells of."""
    folder = tmp_path_factory.mktemp("card")
    write_lab(folder / "lab", sessions_per_family=24, families=("dns", "web", "beacon"))
    rules = ReadingRules(mask="addresses+ports")
    convert([folder / "lab"], folder / "dataset", rules=rules, split="random:60/20/20", workers=1)
    dataset = make_dataset(folder / "other")  # whose config fits: only the path is another
    config = tiny_config(dataset, **{"data.path": folder / "dataset", "epochs": 1})
    train(config, folder / "run")
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """The run, in a folder of its own."""
    return shutil.copytree(trained / "run", tmp_path / "run")


def test_of_a_fresh_run_it_says_what_is_not_measured_and_by_what_it_would_be(run, trained):
    card, path = write_model_card(run)
    assert path.read_text("utf-8") == card
    for command in (
        "xai-traffic evaluate RUN`",
        "xai-traffic evaluate RUN --open-set DATASET",
        "xai-traffic evaluate RUN --forge",
        "xai-traffic evaluate RUN --explanations",
        "xai-traffic audit DATASET RUN --out AUDIT && xai-traffic card RUN --audit AUDIT",
        "xai-traffic calibrate RUN --unknown energy",
    ):
        assert command in card, command
    assert card.count("*Not measured") >= 4 and "it was never evaluated" in card
    assert "a random split has the same hosts" in section(card, "Must not be used for")
    manifest = json.loads((trained / "dataset" / "manifest.json").read_text())
    for row in manifest["captures"]:
        assert hashlib.sha256((trained / "lab" / row["capture"]).read_bytes()).hexdigest() in card
    for name, own in manifest["per_class"].items():
        counts = [own["sessions"], own["kept"]["sessions"], own["duplicates"]]
        counts += list(own["splits"].values())
        assert f"| `{name}` | {' | '.join(map(str, counts))} |" in card
    assert f"`{hashlib.sha256((run / 'config.json').read_bytes()).hexdigest()}`" in card
    result = json.loads((run / "result.json").read_text())
    assert result["best_params_sha256"] in card and "addresses, ports" in card
    assert str(trained) not in card  # whose machine it was is nobody's concern


def test_the_commands_write_it_and_every_score_has_its_interval(run, trained, tmp_path, capsys):
    assert main(["calibrate", str(run), "--unknown", "energy"]) == 0
    assert main(["evaluate", str(run)]) == 0
    assert main(["evaluate", str(run), "--forge", "addresses,ttl"]) == 0
    (run / "notes.md").write_text("We made *this*.\n")
    audit = tmp_path / "audit"
    assert main(["audit", str(trained / "dataset"), str(run), "--out", str(audit)]) == 0
    assert main(["card", str(run), "--audit", str(audit)]) == 0
    assert "model_card.md" in capsys.readouterr().err
    card = (run / "model_card.md").read_text()
    evaluation = json.loads((run / "evaluation-test.json").read_text())
    scores = section(card, "Quantitative analyses")
    accuracy = f"| accuracy | {100 * evaluation['accuracy']:.2f} % ("
    assert accuracy in scores
    for title in ("Quantitative analyses", "By class, split test", "On another network"):
        rows = re.findall(r"^\| (?!class|forged).*\d.*\|$", section(card, title), re.M)
        assert rows and all("(" in row or "not measured" in row for row in rows), title
    forged = json.loads((run / "forged-test.json").read_text())
    for row in forged["forgeries"]:
        assert percent(row["drop"]["accuracy"]).replace(" %", " points") in card
    assert "made under another calibration" not in card and "*Not calibrated" not in card
    rule = json.loads((run / "calibration.json").read_text())["unknown"]["rule"]
    assert f"Rule, on: `{rule}`" in card and "We made *this*." in card
    found = json.loads((audit / "audit.json").read_text())
    shortcuts = section(card, "Known shortcuts")
    assert f"Of {len(found['fields'])} fields" in shortcuts and "lost" in shortcuts
    assert "was not audited" not in card

    # A calibration that changed since makes the evaluation an old one.
    calibration = run / "calibration.json"
    record = json.loads(calibration.read_text())
    for changed in ({"temperature": 3.5}, {"sets": {**record["sets"], "coverage": 0.5}}):
        calibration.write_text(json.dumps({**record, **changed}))
        assert "made under another calibration than the run has now" in write_model_card(run)[0]
    # The audit is remembered, and one of another dataset refused.
    other = {**found, "manifest_sha256": "0" * 64}
    (audit / "audit.json").write_text(json.dumps(other))
    with pytest.raises(RunError, match="of another dataset"):
        write_model_card(run, audit)
    with pytest.raises(RunError, match="is no audit of this version"):
        write_model_card(run, run / "config.json")
    assert json.loads((run / "audit.json").read_text()) == found


def test_a_file_of_another_version_is_named_and_costs_no_measurement(run, capsys):
    (run / "evaluation-validation.json").write_text(json.dumps({"step": 1, "leaky": []}))
    assert main(["card", str(run)]) == 1
    assert "is damaged or of another version (KeyError" in capsys.readouterr().err
    assert main(["calibrate", str(run)]) == 0
    assert "the model card is left as it is" in capsys.readouterr().err


def test_without_its_dataset_it_says_so(run, tmp_path):
    reading = json.loads((run / "reading.json").read_text())
    reading["dataset"] |= {"path": str(tmp_path / "gone"), "leaky": ["one image in two splits"]}
    (run / "reading.json").write_text(json.dumps(reading))
    card, _ = write_model_card(run)
    assert "*not at hand*, for the dataset is gone" in card
    assert "how it was split is not at hand" in card
    assert "**LEAKY: its scores are not what its split says" in card
    assert "LEAKY, `one image in two splits`" in section(card, "Must not be used for")


def test_no_name_is_markup(run):
    """Classes, captures and warnings are hostile; a renderer shows each as it is."""
    reading = json.loads((run / "reading.json").read_text())
    manifest = read_run_record(run).manifest
    manifest["captures"] = [
        {**manifest["captures"][0], "capture": name, "fault": "cut"} for name in HOSTILE
    ]
    own = next(iter(manifest["per_class"].values()))
    manifest["per_class"] = dict.fromkeys(HOSTILE, own)
    manifest["warnings"] = HOSTILE
    text = json.dumps(manifest, sort_keys=True).encode()
    (run / "dataset.json").write_text(json.dumps(manifest))
    reading["classes"] = HOSTILE
    reading["dataset"]["manifest_sha256"] = hashlib.sha256(text).hexdigest()
    (run / "reading.json").write_text(json.dumps(reading))
    html = rendered(model_card(read_run_record(run)))
    assert not re.search(r"<(a|script|b|strong|img|h1)[ >]", html.partition("</h1>")[2])
    for name in HOSTILE:
        shown = code(name).strip("` ")
        escaped = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert escaped in html
    for body in re.findall(r"<table>.*?</table>", html, re.S):
        rows = [row.count("<t") for row in re.findall(r"<tr>(.*?)</tr>", body, re.S)]
        assert len(set(rows)) == 1


@given(st.text())
def test_a_name_is_one_code_span_wherever_it_stands(name):
    html = rendered("\n".join(table(("a", "b"), [(code(name), "next")])))
    row = re.findall(r"<td>(.*?)</td>", html, re.S)
    assert len(row) == 2 and row[1] == "next"
    assert re.fullmatch(r"<code>[^<>]*</code>|\(no name\)", row[0])
    assert re.fullmatch(
        r"<p>(<code>[^<>]*</code>|\(no name\)) !</p>\n", rendered(f"{code(name)} !")
    )


def test_one_hash_tells_many_captures():
    rows = [{"sha256": "b" * 64, "capture": "x"}, {"sha256": "a" * 64, "capture": "y"}]
    lines = f"{'a' * 64}  y\n{'b' * 64}  x\n"
    assert captures_sha256(rows) == hashlib.sha256(lines.encode()).hexdigest()


def test_wilsons_interval():
    """Against the roots of (p - x)^2 = z^2 x (1 - x) / n, whose ends it is."""
    for hits, of in ((0, 10), (3, 10), (10, 10), (150, 200)):
        found, z2 = part_of(hits, of), 1.959964**2
        roots = np.roots([1 + z2 / of, -2 * hits / of - z2 / of, (hits / of) ** 2])
        assert [found["low"], found["high"]] == pytest.approx(sorted(roots.real), abs=1e-9)


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main(["card", str(tmp_path)]) == 1
    assert "is no run" in capsys.readouterr().err
