"""audit.html: whole, offline, and safe whatever the captures say."""

import html.parser
import json
import re
import string

import pytest
from explained_run import HOST, make_run, write_capture

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset
from xai_traffic.errors import RunError
from xai_traffic.evaluation.audit import audit_dataset
from xai_traffic.evaluation.field_reliance import field_reliance
from xai_traffic.report.audit import write_audit
from xai_traffic.report.audit_page import render
from xai_traffic.report.markup import content_hash

LABELS = ["<b onclick=alert(1)>", "Chat\x1b[31m\u202e"]


class Elements(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    for name in LABELS:
        (folder / "captures" / name).mkdir(parents=True)
        write_capture(folder / "captures" / name / "<img src=x>.pcap", sessions=30)
    split = "random:60/20/20"
    convert([folder / "captures"], folder / "data", rules=ReadingRules(), split=split, workers=1)
    return open_dataset(folder / "data")


@pytest.fixture(scope="module")
def found(dataset, tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("run"), classes=sorted(LABELS))
    found = audit_dataset(dataset)
    found["run"] = field_reliance(run, dataset, found["fields"], limit=8)
    found["proposal"] |= {"mask": "ttl", "hides": {"ttl": ["ip.<script>"]}}
    found["proposal"]["commands"] = ["xai-traffic convert '<script>'"]
    found["fields"][0]["examples"][0]["value"] = HOST
    reach = {"value": 0.9, "low": 0.8, "high": 1.0}
    score = {"sessions": 9, "accuracy": reach, "macro_f1": reach, "leaky": []}
    differ = {"mean": -0.1, "low": -0.2, "high": 0.0, "sessions": 8}
    found["retrain"] = {"mask": "ttl", "before": score, "after": score, "difference": differ}
    return found


def test_the_page_is_whole_and_calls_nobody(found):
    page = render(found)
    elements = Elements()
    elements.feed(page)
    tags = [tag for tag, _ in elements.found]
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(tags)
    for tag, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("href", "src"):
            assert attributes.get(name, "#").startswith("#")
    style = re.search(r"<style>(.*?)</style>", page, re.S)[1]
    (policy,) = [own["content"] for _, own in elements.found if "http-equiv" in own]
    assert "default-src 'none'" in policy and content_hash(style) in policy
    targets = {own["href"][1:] for tag, own in elements.found if tag == "a"}
    assert targets <= {own["id"] for _, own in elements.found if "id" in own}
    assert not string.Template(page).get_identifiers()


def test_hostile_names_and_values_are_text(found):
    assert found["fields"][0]["examples"][0]["value"] == HOST
    page = render(found)
    assert "<b onclick" not in page and "<script" not in page and "<img" not in page
    assert "\x1b" not in page and "\u202e" not in page
    assert "&lt;b onclick=alert(1)&gt;" in page and "&lt;script&gt;" in page


def test_leaky_is_the_first_that_is_said(found):
    assert found["leaky"] == [] and "LEAKY" not in render(found)
    page = render({**found, "leaky": ["9 clients <b> in two splits"]})
    assert (
        "<strong>LEAKY</strong>, numbers are not what the split says: 9 clients &lt;b&gt;" in page
    )


def test_a_masked_dataset_that_leaks_is_marked(found):
    before, after = (found["retrain"][name] for name in ("before", "after"))
    after = {**after, "leaky": ["1 image <b> in two splits"]}
    page = render({**found, "retrain": {**found["retrain"], "after": after}})
    assert before["leaky"] == [] and "masked <b>LEAKY</b>" in page
    assert "The masked dataset is LEAKY: 1 image &lt;b&gt; in two splits." in page


def test_of_a_run_shares_and_drops_stand_side_by_side(found):
    run = found["run"]
    assert sum(row["share"] for row in run["fields"]) == pytest.approx(1, abs=1e-6)
    dropped = [row for row in run["fields"] if row["drop"]]
    assert dropped and all(row["drop"]["sessions"] == run["sessions"] for row in dropped)
    assert {"addresses", "ttl"} <= {row["group"] for row in run["groups"]}


def test_a_folder_that_holds_anything_else_is_left_alone(dataset, tmp_path):
    out = tmp_path / "audit"
    write_audit(dataset, out)
    values = json.loads((out / "audit.json").read_text())
    for key in ("field", "accuracy", "ami", "verdict"):  # DESIGN's contract
        assert all(key in row for row in values["fields"])
    with pytest.raises(RunError, match="exists"):
        write_audit(dataset, out)
    write_audit(dataset, out, overwrite=True)
    (out / "mine.txt").touch()
    with pytest.raises(RunError, match="holds something other"):
        write_audit(dataset, out, overwrite=True)
