"""Near duplicates: found as comparing all pairs finds them, and kept on one side of the split."""

import numpy as np
import pytest
from labelled_captures import FIVE, check_account, packet, write_capture

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.cli import main
from xai_traffic.data.build import convert
from xai_traffic.data.near_duplicates import (
    BINS,
    NearDuplicates,
    NearSpec,
    band_hashes,
    likeness,
    min_hashes,
    parse_near,
)
from xai_traffic.data.store import open_dataset
from xai_traffic.errors import ConfigError


def sessions(seed: int, families: int, copies: int, words: int = 40):
    """Return tiles and counts of families of sessions that differ in some of their words."""
    rng = np.random.default_rng(seed)
    tiles, counts = [], []
    for _ in range(families):
        count = int(rng.integers(1, 6))
        first = np.zeros((count, 64), np.uint32)
        first[:, :words] = rng.integers(1, 2**32, (count, words), dtype=np.uint32)
        for _ in range(copies):
            copy = first.copy()
            changed = rng.random(copy.shape) < rng.choice([0, 0.02, 0.05, 0.1, 0.3])
            copy[changed & (copy != 0)] = rng.integers(1, 2**32, dtype=np.uint32)
            kept = max(1, count - int(rng.random() < 0.1))
            tiles.append(copy[:kept].view(np.uint8))
            counts.append(kept)
    return np.concatenate(tiles), np.array(counts)


def all_pairs(tiles, counts):
    """Return the Jaccard index of all pairs from sets of (place, word), float64 [N, N]."""
    ends = np.cumsum(counts)
    sets = []
    for end, count in zip(ends, counts, strict=True):
        words = tiles[end - count : end].view(np.uint32).reshape(-1)
        sets.append({(place, int(word)) for place, word in enumerate(words) if word})
    return np.array(
        [[len(a & b) / len(a | b) if a | b else 1.0 for b in sets] for a in sets], float
    )


def components(near):
    root = np.arange(len(near))
    for a, b in zip(*np.nonzero(near), strict=True):
        one, other = sorted((root[a], root[b]))
        root[root == other] = one
    return root


def find(tiles, counts, threshold, pieces=1):
    near = NearDuplicates(NearSpec("keep", threshold))
    ends = np.append(0, np.cumsum(counts))
    for rows in np.array_split(np.arange(len(counts)), pieces):
        if len(rows):
            part = tiles[ends[rows[0]] : ends[rows[-1] + 1]]
            near.add(part, counts[rows], np.zeros(len(rows), int), rows)
    return near.find(tiles).cluster


def test_likeness_is_that_of_sets():
    tiles, counts = sessions(0, 4, 6)
    whole = all_pairs(tiles, counts)
    first = np.cumsum(counts) - counts
    a, b = (each.reshape(-1) for each in np.indices(whole.shape))
    found = likeness(tiles, first[a], counts[a], first[b], counts[b])
    assert np.array_equal(found.reshape(whole.shape), whole)


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("words", [5, 40])
def test_clusters_are_those_of_all_pairs(threshold, words):
    missed = pairs = 0
    for seed in range(3):
        tiles, counts = sessions(seed, 8, 15, words)
        near = all_pairs(tiles, counts) >= threshold
        expected, found = components(near), find(tiles, counts, threshold)
        together = expected[:, None] == expected
        assert not ((found[:, None] == found) & ~together).any()  # precision is 1
        missed += int((near & (found[:, None] != found)).sum())
        pairs += int(near.sum())
    assert missed <= 0.01 * pairs


def test_bins_agree_as_often_as_the_sets_are_alike():
    tiles, counts = sessions(3, 2, 60, 60)
    whole, bins = all_pairs(tiles, counts), min_hashes(tiles, counts)
    agree = (bins[:, None] == bins).mean(-1)
    assert np.abs(agree - whole).mean() < 0.05 and abs((agree - whole).mean()) < 0.01


def test_clusters_do_not_depend_on_the_parts():
    tiles, counts = sessions(5, 10, 10)
    once = find(tiles, counts, 0.8)
    assert np.array_equal(once, find(tiles, counts, 0.8, pieces=7))
    empty = np.zeros((4, 256), np.uint8)
    assert find(empty, np.array([1, 1, 2]), 0.9).tolist() == [0, 0, 0]
    assert find(empty[:0], np.zeros(0, np.int64), 0.9).tolist() == []


def test_bands_fit_the_threshold():
    for threshold in (0.2, 0.5, 0.8, 0.9, 0.95, 1.0):
        rows = NearSpec("keep", threshold).rows
        assert (1 - threshold**rows) ** (BINS // rows) <= 0.005
        assert band_hashes(np.ones((1, 256), np.uint8), [1], rows).shape == (1, BINS // rows)


@pytest.mark.parametrize("text", ["0.9", "group", "group:0.1", "group:2", "keep:nan", "lose:0.9"])
def test_wrong_wishes_are_explained(text):
    with pytest.raises(ConfigError, match="ACTION:THRESHOLD"):
        parse_near(text)


@pytest.fixture
def folder(tmp_path):
    """Three classes of sessions of 200 payload bytes, many of them but a few bytes apart."""
    rng = np.random.default_rng(7)
    shared = rng.bytes(200)
    for name, base in (("Malware/bot", rng.bytes(200)), ("Malware/worm", shared)):
        frames = []
        for number in range(60):
            data = bytearray(base if number % 3 else rng.bytes(200))
            data[number : number + 1] = rng.bytes(1)
            frames.append(packet(number, bytes(data), port=2000 + number))
        write_capture(tmp_path / "captures" / f"{name}.pcap", frames)
    web = [packet(n, shared[:-1] + bytes([n]), port=9) for n in range(20)]
    web += [packet(100 + n, rng.bytes(200)) for n in range(30)]
    write_capture(tmp_path / "captures" / "Benign" / "web.pcap", web)
    return tmp_path / "captures"


MASKED = ReadingRules(rule="five_tuple", mask="addresses+ports+ids")


@pytest.mark.parametrize("split", ["random:60/20/20", "hash:60/20/20", "time:60/20/20"])
def test_group_and_drop_leave_nothing_near_in_two_splits(folder, tmp_path, split):
    kept = convert(
        [folder], tmp_path / "keep", rules=MASKED, split=split, near_duplicates="keep:0.8"
    )
    plain = convert([folder], tmp_path / "plain", rules=MASKED, split=split)
    same = [open_dataset(each.dataset).table["split"] for each in (kept, plain)]
    assert same[0] == same[1]  # to look changes nothing
    if not split.startswith("time"):
        assert kept.manifest["leaky"] and kept.manifest["leaks"]["shared"]["near_duplicate"]["keys"]
    found = kept.manifest["near_duplicates"]
    assert found["clusters_of_several_labels"] == 1 and found["largest"][0]["labels"] == {
        "worm": 40,
        "web": 20,
    }
    for action in ("group", "drop"):
        made = convert(
            [folder], tmp_path / action, rules=MASKED, split=split, near_duplicates=f"{action}:0.8"
        )
        check_account(made.manifest)
        assert not made.manifest["leaky"]
        assert made.manifest["leaks"]["shared"]["near_duplicate"] == {"sessions": 0, "keys": 0}
        dataset = open_dataset(made.dataset)
        placed = {row: set() for row in ("train", "validation", "test", "unused")}
        for split_name in dataset.table["split"].to_pylist():
            placed[split_name].add(split_name)
        sizes = made.manifest["per_class"]
        assert sum(sum(row["splits"].values()) for row in sizes.values()) == len(dataset)
        unused = sum(row["splits"].get("unused", 0) for row in sizes.values())
        repeats = made.manifest["near_duplicates"]["repeats"]
        assert repeats == found["repeats"] > 50
        if split.startswith("random"):
            assert unused == (repeats if action == "drop" else 0)


@pytest.mark.parametrize("wish", ["keep:0.8", "group:0.8", "drop:0.9"])
@pytest.mark.parametrize(
    "split", ["host:60/20/20", "session:fold1/3", "time:60/20/20", "family:bot"]
)
def test_merged_shards_find_the_same(folder, tmp_path, wish, split):
    options = {"rules": MASKED, "split": split, "near_duplicates": wish, "seed": 3}
    whole = convert([folder], tmp_path / "whole", **options)
    for index in range(3):
        convert([folder], tmp_path / "shards" / str(index), shard=f"{index}/3", **options)
    merged = convert([tmp_path / "shards"], tmp_path / "merged", rules=ReadingRules())
    assert merged.manifest == whole.manifest
    assert open_dataset(merged.dataset).table.equals(open_dataset(whole.dataset).table)
    with pytest.raises(ConfigError, match="near_duplicates"):
        convert(
            [tmp_path / "shards"], tmp_path / "m", rules=ReadingRules(), near_duplicates="keep:0.7"
        )


def test_an_edit_of_the_split_makes_what_is_near_unknown(folder, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = convert([folder], tmp_path / "out", rules=MASKED, near_duplicates="group:0.8")
    assert open_dataset(made.dataset).leaky("multiclass") == []
    path = made.dataset / "sessions.parquet"
    table = pq.read_table(path)
    names = table["split"].to_pylist()[::-1]
    place = table.column_names.index("split")
    pq.write_table(table.set_column(place, "split", pa.array(names)), path)
    assert "edited" in open_dataset(made.dataset).leaky("multiclass")[-1]


def test_the_command_lists_the_largest_clusters(folder, tmp_path, capsys):
    command = ["convert", str(folder), "--out", str(tmp_path / "out"), "--mask", "addresses+ports"]
    assert main([*command, "--near-duplicates", "drop:0.8"]) == 0
    told = capsys.readouterr().err
    assert "Near duplicates (drop" in told and "worm" in told and "unused" in told


def test_a_derived_dataset_cannot_look_before_its_split(folder, tmp_path):
    made = convert([folder], tmp_path / "out", rules=FIVE)
    with pytest.raises(ConfigError, match="before the split"):
        convert(
            [made.dataset],
            tmp_path / "d",
            rules=ReadingRules(mask="header"),
            near_duplicates="group:0.9",
        )
