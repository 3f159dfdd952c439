"""Shallow baselines on a dataset whose classes are known by a few bytes, and on real packets."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from sklearn.tree import DecisionTreeClassifier
from small_dataset import make_dataset

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset
from xai_traffic.errors import ConfigError, DatasetError
from xai_traffic.evaluation.baseline_features import TILES, header_features, tile_features
from xai_traffic.evaluation.baseline_problem import Problem
from xai_traffic.evaluation.baseline_trees import _size, judge_by_boosting
from xai_traffic.evaluation.baselines import BASELINES, judge_baselines
from xai_traffic.evaluation.field_values import field_values
from xai_traffic.evaluation.paired import baseline_verdicts, compare_pairs
from xai_traffic.evaluation.verdicts import Verdicts
from xai_traffic.lab.write import write_lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Sessions of two kinds that nothing tells apart but the TTL of the client's packets."""
    folder = tmp_path_factory.mktemp("baselines")
    write_lab(folder / "lab", seed=1, families=("dns", "web"), plant="ttl", sessions_per_family=60)
    convert([folder / "lab"], folder / "data", rules=ReadingRules(), split="random:60/20/20")
    return open_dataset(folder / "data")


def problem_of(dataset, task="binary"):
    parts = [dataset.rows(split) for split in ("train", "validation", "test")]
    ends = np.cumsum([0, *map(len, parts)]).tolist()
    rows = np.concatenate(parts)
    spans = [slice(*pair) for pair in zip(ends, ends[1:], strict=False)]
    labels = dataset.task_labels(task)[rows]
    return Problem(dataset, rows, labels, len(dataset.task_classes(task)), *spans, 0)


def test_all_find_what_is_there_to_be_found(lab):
    found = {made.name: made for made in judge_baselines(lab, "binary")}
    assert set(found) == set(BASELINES)
    labels = lab.task_labels("binary")[lab.rows("test")]
    for name, made in found.items():
        np.testing.assert_array_equal(made.labels, labels)
        np.testing.assert_allclose(made.probabilities.sum(1), 1)
        accuracy = (made.probabilities.argmax(1) == labels).mean()
        assert accuracy > 0.95 if name != "majority class" else accuracy < 0.7, name
        assert made.parameters > 0
    assert found["majority field"].detail.startswith("ip.ttl")


def test_the_majority_class_is_that_of_training(lab):
    (made,) = judge_baselines(lab, "multiclass", names=["majority class"])
    labels = lab.labels[lab.rows("train")]
    expected = np.bincount(labels, minlength=len(lab.classes)) / len(labels)
    np.testing.assert_allclose(made.probabilities, np.tile(expected, (len(made.labels), 1)))


def test_tiles_are_the_bytes_that_differ(lab):
    problem = problem_of(lab)
    found = tile_features(problem)
    assert found.dtype == np.uint8 and len(found) == len(problem.rows)
    train = found[problem.train]
    assert (train != train[:1]).any(0).all() and found.shape[1] <= TILES * 256
    whole = np.zeros((len(problem.rows), TILES, 256), np.uint8)
    for place, row in enumerate(problem.rows):
        count = min(lab.tile_counts[row], TILES)
        whole[place, :count] = lab.tiles[lab.first_tiles[row] :][:count]
    columns = {column.tobytes() for column in whole.reshape(len(whole), -1)[problem.train].T}
    assert {column.tobytes() for column in train.T} <= columns


def test_header_fields_are_numbers(lab):
    problem = problem_of(lab)
    fields = field_values(lab, problem.rows)
    found = header_features(problem, fields)
    ttl = np.array([fields.values["ip.ttl", 0][s][0] for s in range(len(problem.rows))], float)
    assert any((column == ttl * 2**40).all() for column in found.T)  # six bytes, the first of them
    absent = [name for name, own in fields.values.items() if len(own) < len(problem.rows)]
    assert absent and (found == -1).any()


def test_a_tree_is_as_large_as_it_is():
    features = np.array([[0.0], [1.0], [2.0], [3.0]])
    tree = DecisionTreeClassifier().fit(features, [0, 1, 0, 1])
    # Three inner nodes with feature and threshold, four leaves with the shares of two classes.
    assert _size(tree) == 3 * 2 + 4 * 2


def test_without_validation_and_without_fields(tmp_path, lab):
    dataset = make_dataset(tmp_path / "data")
    split = np.asarray(dataset.table["split"].to_pylist(), object)
    split[split == "validation"] = "train"
    table = dataset.table.set_column(
        dataset.table.column_names.index("split"), "split", [split.tolist()]
    )
    alone = dataclasses.replace(dataset, table=table)
    (made,) = judge_baselines(alone, names=["boosted trees, tiles"])
    assert (made.probabilities.argmax(1) == made.labels).all()
    with pytest.raises(DatasetError, match="no sessions in split 'validation'"):
        list(judge_baselines(alone, split="validation"))
    with pytest.raises(ConfigError, match="'oracle' is unknown: choose of majority class"):
        list(judge_baselines(lab, names=["oracle"]))


def test_pairs_stand_against_the_best(lab):
    found = baseline_verdicts(lab, "binary", "test")
    rows = compare_pairs(found)
    assert [row["macro_f1"]["value"] for row in rows] == sorted(
        (row["macro_f1"]["value"] for row in rows), reverse=True
    )
    assert "behind" not in rows[0] and rows[-1]["name"] == "majority class"
    last = rows[-1]
    assert last["behind"]["accuracy"]["low"] > 0 and last["mcnemar"]["p"] < 0.01
    behind = rows[0]["accuracy"]["value"] - last["accuracy"]["value"]
    assert last["behind"]["accuracy"]["value"] == pytest.approx(behind)
    other = Verdicts("other", found[0].rows[1:], found[0].units, found[0].labels, None)
    with pytest.raises(ValueError, match="other judged other sessions than majority class"):
        compare_pairs([found[0], other])


def coded(labels, spans, features):
    """Return a problem of labels, and judge it by boosting on features."""
    problem = Problem(None, None, labels, 5, *spans, 0)
    return judge_by_boosting("boosted trees", problem, features)


@pytest.mark.parametrize("missing", [0, 4])
def test_boosting_stops_by_the_classes_that_it_learns(missing):
    rng = np.random.default_rng(missing)
    learnt = np.array([k for k in range(5) if k != missing])
    labels = rng.choice(learnt, 900)
    labels[500:560] = rng.integers(0, 5, 60)  # validation has a class that training lacks
    features = labels[:, None] + rng.normal(0, 0.5, (900, 6))
    made = coded(labels, (slice(500), slice(500, 600), slice(600, 900)), features)
    assert (made.probabilities.argmax(1) == made.labels).mean() > 0.95
    assert made.probabilities[:, missing].max() == 0


def test_one_class_is_all_that_can_be_said():
    labels = np.r_[np.full(40, 3), [0, 1, 3, 3]]
    made = coded(labels, (slice(30), slice(30, 40), slice(40, 44)), np.zeros((44, 2)))
    assert (made.probabilities == np.eye(5)[[3] * 4]).all() and made.parameters == 0


def test_a_field_of_values_that_never_return_tells_nothing(lab):
    """Without a validation split it is chosen on sessions that it was not learnt on."""
    split = ["train" if one == "validation" else one for one in lab.table["split"].to_pylist()]
    place = lab.table.column_names.index("split")
    table = lab.table.set_column(place, "split", pa.array(split))
    whole = dataclasses.replace(lab)
    object.__setattr__(whole, "table", table)
    (made,) = judge_baselines(whole, "binary", names=["majority field"])
    assert made.detail.startswith("ip.ttl")
    assert (made.probabilities.argmax(1) == made.labels).mean() > 0.95
