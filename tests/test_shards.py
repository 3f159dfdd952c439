"""Shards of a conversion: merged they are what one process makes, and nothing else is merged."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_captures import FIVE, check_account, packet, write_capture, write_folder
from whole_split import assign_groups

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.cli import main
from xai_traffic.data import merge, repeats
from xai_traffic.data.build import convert
from xai_traffic.data.deal import Spans, connected, ties
from xai_traffic.data.duplicates import Seen, label_conflicts
from xai_traffic.data.folder import FILES, SHARD_FILES
from xai_traffic.data.groups import Groups
from xai_traffic.data.repeats import find_repeats
from xai_traffic.data.shard_notes import ShardNotes
from xai_traffic.data.shards import Shard, parse_shard, share_of
from xai_traffic.data.split import parse_split
from xai_traffic.data.store import open_dataset
from xai_traffic.errors import ConfigError, DatasetError

CLOSE = ReadingRules(rule="five_tuple", mask="addresses+ports")


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Six captures of four classes: copies within and across them, one cut, one no capture."""
    captures = write_folder(tmp_path / "captures")
    for day, (folder, label) in enumerate([("Benign", "web"), ("Malware", "bot")]):
        frames = [packet(50 + host, b"beacon %d" % (host % 5)) for host in range(12)]
        frames += [packet(day, b"only here %d" % day), packet(99, bytes([4]))]
        write_capture(captures / folder / "days" / f"{label}-{day}.pcap", frames)
    write_capture(captures / "Malware" / "cut.pcap", [packet(1, b"x"), packet(2, b"y")], cut=5)
    (captures / "Malware" / "noise.pcap").write_bytes(b"no capture at all")
    return captures


def make_shards(inputs, out: pathlib.Path, number: int, **options) -> pathlib.Path:
    for index in range(number):
        convert(inputs, out / str(index), shard=f"{index}/{number}", **options)
    return out


def check_same(one: pathlib.Path, other: pathlib.Path) -> None:
    """Check that two datasets have the same tiles, tables and manifest."""
    assert {file.name for file in other.iterdir()} == FILES
    for name in ("tiles.npy", "manifest.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    first, second = open_dataset(one), open_dataset(other)
    assert first.table.equals(second.table) and first.packets.equals(second.packets)


@pytest.mark.parametrize("number", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("rules", "split"),
    [
        (FIVE, "random:60/20/20"),
        (CLOSE, "hash:50/25/25"),
        (CLOSE, "capture:60/20/20"),
        (ReadingRules(layout="ustc28"), "random:70/10/20"),
        (ReadingRules(min_packets=2, max_open=5), "random:70/10/20"),
        (dataclasses.replace(CLOSE, most_per_capture=3), "capture:60/20/20"),
    ],
)
def test_merged_shards_are_the_dataset(folder, tmp_path, number, rules, split):
    options = {"rules": rules, "split": split, "seed": 4}
    whole = convert([folder], tmp_path / "whole", **options)
    shards = make_shards([folder], tmp_path / "shards", number, **options)
    merged = convert([shards], tmp_path / "merged", rules=ReadingRules())
    check_account(merged.manifest)
    assert merged.failures == whole.failures and len(whole.failures) == 2
    assert merged.manifest == whole.manifest
    check_same(tmp_path / "whole", tmp_path / "merged")
    found = sum(row["duplicates"] for row in whole.manifest["per_class"].values())
    known = [open_dataset(path).manifest["per_class"] for path in shards.iterdir()]
    within = sum(row["duplicates"] for each in known for row in each.values())
    assert within <= found
    if number == 7 and rules is CLOSE:
        assert within < found and whole.manifest["label_conflicts"]  # there was work to do


def test_merging_in_pieces_and_ranges_changes_nothing(folder, tmp_path, monkeypatch):
    whole = convert([folder], tmp_path / "whole", rules=CLOSE).dataset
    shards = make_shards([folder], tmp_path / "shards", 3, rules=CLOSE, workers=2)
    monkeypatch.setattr(merge, "_ROWS", 5)
    monkeypatch.setattr(repeats, "_RANGE", 4)
    check_same(whole, convert([shards], tmp_path / "merged", rules=ReadingRules()).dataset)


def test_label_tables_are_the_shards_too(folder, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "capture,filter,label,binary_label\n"
        "*/web.pcap,src net 10.0.0.0/29,early,Benign\n"
        "*,host 10.0.0.99,odd,\n"
        "*days*,,day,Malware\n"
        "never,,never,\n"
    )
    options = {"rules": CLOSE, "labels": labels}
    whole = convert([folder], tmp_path / "whole", **options)
    assert "line 5 of the label table labels no session" in whole.manifest["warnings"]
    shards = make_shards([folder], tmp_path / "shards", 4, **options)
    assert open_dataset(shards / "0").manifest["warnings"] == []
    merged = convert([shards], tmp_path / "merged", rules=ReadingRules())
    assert merged.manifest == whole.manifest
    check_same(whole.dataset, merged.dataset)


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("ustc/session_prefix", {"rules": FIVE}),
        ("ustc/session_prefix", {"rules": CLOSE, "split": "hash:70/10/20"}),
        ("malware", {"rules": ReadingRules(filter=""), "split": "capture:60/20/20"}),
    ],
)
def test_real_captures(captures, tmp_path, part, options):
    whole = convert([captures / part], tmp_path / "whole", **options)
    shards = make_shards([captures / part], tmp_path / "shards", 5, **options)
    merged = convert([shards], tmp_path / "merged", rules=ReadingRules())
    assert merged.manifest == whole.manifest
    check_same(whole.dataset, merged.dataset)


def test_a_shard_is_a_dataset_and_may_be_empty(folder, tmp_path):
    shards = make_shards([folder], tmp_path / "shards", 9, rules=FIVE)
    held = [open_dataset(shards / str(index)) for index in range(9)]
    assert {file.name for file in held[0].path.iterdir()} == FILES | SHARD_FILES
    assert [len(each.manifest["captures"]) for each in held] == [1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert len(held[8]) == 0 and held[8].tiles.shape == (0, 256) and held[8].classes == []
    assert len(held[0].rows("train")) > 0


def test_nothing_left_is_told_by_the_merge(folder, tmp_path):
    strict = ReadingRules(min_packets=50)
    shards = make_shards([folder], tmp_path / "shards", 2, rules=strict)
    with pytest.raises(DatasetError, match="no session is left.*below minimum"):
        convert([shards], tmp_path / "merged", rules=ReadingRules())
    assert not (tmp_path / "merged").exists()


def test_a_finished_shard_is_left_as_it_is(folder, tmp_path):
    def make(**options):
        options = {"rules": FIVE, "shard": "1/3", **options}
        return convert([folder], tmp_path / "1", **options)

    first = make()
    made = (tmp_path / "1" / "tiles.npy").stat().st_ino
    again = make()
    assert (tmp_path / "1" / "tiles.npy").stat().st_ino == made
    assert again.manifest == first.manifest and again.failures == first.failures
    make(overwrite=True)
    assert (tmp_path / "1" / "tiles.npy").stat().st_ino != made
    for options, message in [
        ({"shard": "2/3"}, "the number is 1/3, not 2/3"),
        ({"shard": "1/4"}, "number of shards is 3, not 4"),
        ({"seed": 1}, "seed is 0, not 1"),
        ({"rules": CLOSE}, "reading rule mask is none, not addresses"),
        ({"split": "hash:70/10/20"}, "split is random"),
    ]:
        with pytest.raises(DatasetError, match=f"{message}.*add --overwrite"):
            make(**options)
    write_capture(folder / "Malware" / "new.pcap", [packet(3, b"z")])
    with pytest.raises(DatasetError, match="list of captures is 6 captures of .* not 7 captures"):
        make()


def test_what_makes_no_whole_is_refused(folder, tmp_path):
    shards = make_shards([folder], tmp_path / "shards", 3, rules=FIVE)
    one, two, three = sorted(shards.iterdir())
    other = convert([folder], tmp_path / "other", rules=CLOSE, shard="1/3").dataset
    seeded = convert([folder], tmp_path / "seeded", rules=FIVE, seed=1, shard="1/3").dataset
    plain = convert([folder], tmp_path / "plain", rules=FIVE).dataset
    copy = shutil.copytree(two, tmp_path / "copy")
    table = tmp_path / "labels.csv"
    table.write_text("label\nall\n")
    by_table = convert([folder], tmp_path / "by-table", rules=FIVE, labels=table, shard="1/3")
    for inputs, options, error, message in [
        ([one, three], {}, DatasetError, r"1 of 3 shards missing: 1; .*--shard 1/3.*--array=1"),
        (
            [one, two, copy, three],
            {},
            DatasetError,
            "1 and .*copy are both shard 1/3: leave one out",
        ),
        ([one, other, three], {}, DatasetError, "other and .*0 are.*reading rule mask is addr"),
        ([one, seeded, three], {}, DatasetError, "seeded and .*the seed is 1 there and 0 here"),
        (
            [one, by_table.dataset, three],
            {},
            DatasetError,
            "the label table is SHA-256 .* none here",
        ),
        ([shards, plain], {}, ConfigError, "plain is not: merge the shards"),
        ([shards, folder], {}, ConfigError, "captures is not"),
        ([plain, plain], {}, ConfigError, "convert it alone.*what can be merged are the shards"),
        ([shards], {"rules": CLOSE}, ConfigError, "rule: shards are merged as they were made"),
        ([shards], {"split": "hash:1/1/98"}, ConfigError, "split: shards"),
        ([shards], {"seed": 2}, ConfigError, "seed: shards"),
        ([shards], {"labels": table}, ConfigError, "labels: shards"),
        ([plain], {"shard": "0/2"}, ConfigError, "without other inputs or --shard"),
    ]:
        with pytest.raises(error, match=message):
            convert(inputs, tmp_path / "out", **{"rules": ReadingRules(), **options})
    with pytest.raises(DatasetError, match="choose another --out"):
        convert([shards], two, rules=ReadingRules(), overwrite=True)
    assert not (tmp_path / "out").exists()


def test_a_list_that_grew_meanwhile_is_told(folder, tmp_path):
    convert([folder], tmp_path / "0", rules=FIVE, shard="0/2")
    write_capture(folder / "Malware" / "new.pcap", [packet(3, b"z")])
    convert([folder], tmp_path / "1", rules=FIVE, shard="1/2")
    with pytest.raises(DatasetError, match="list of captures is 7 captures of .* and 6 captures"):
        convert([tmp_path / "0", tmp_path / "1"], tmp_path / "out", rules=ReadingRules())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda shard: (shard / "digests.npy").unlink(), "digests.npy cannot be read"),
        (lambda shard: np.save(shard / "flows.npy", np.zeros(1, np.uint64)), "does not fit"),
        (lambda shard: (shard / "tiles.npy").unlink(), "incomplete, tiles.npy missing"),
        (
            lambda shard: (shard / "tiles.npy").write_bytes(
                (shard / "tiles.npy").read_bytes()[:-100]
            ),
            "tiles.npy was cut short",
        ),
        (lambda shard: (shard / "packets.parquet").write_bytes(b"none"), "cannot be read"),
    ],
)
def test_a_damaged_shard_is_named(folder, tmp_path, damage, message):
    shards = make_shards([folder], tmp_path / "shards", 2, rules=FIVE)
    damage(shards / "1")
    with pytest.raises(DatasetError, match=f"shards/1.*{message}"):
        convert([shards], tmp_path / "out", rules=ReadingRules())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captures", "shards"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8/8", r"the last of 8 is 7/8; in a Slurm array --array=0-7"),
        ("0/0", "0 are none"),
        ("3", "write I/N"),
        ("-1/4", "write I/N"),
        ("/4", "write I/N"),
    ],
)
def test_wrong_shards_are_explained(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_shard(text)


def test_standard_input_is_not_shared_out(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("label\npiped\n")
    with pytest.raises(ConfigError, match="standard input cannot be shared out"):
        convert(["-"], tmp_path / "out", rules=FIVE, labels=labels, shard="0/2")


@given(st.lists(st.integers(0, 40 << 20), max_size=8), st.integers(1, 10))
def test_shares_are_runs_and_the_biggest_is_as_small_as_can_be(sizes, number):
    shares = [share_of(sizes, Shard(index, number)) for index in range(number)]
    taken = [place for share in shares for place in range(len(sizes))[share]]
    assert taken == list(range(len(sizes)))
    costs = np.array([0, *np.cumsum([size + (1 << 20) for size in sizes])])
    biggest = max(int(costs[share.stop] - costs[share.start]) for share in shares)
    best = {0: {0: 0}}  # of each number of shares, by where they end: the biggest of them
    for count in range(number):
        best[count + 1] = {
            end: min(
                max(before, int(costs[end] - costs[begin]))
                for begin, before in best[count].items()
                if begin <= end
            )
            for end in range(len(sizes) + 1)
        }
    assert biggest == best[number][len(sizes)]


IMAGES = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), max_size=12)


@given(st.lists(IMAGES, min_size=1, max_size=5), st.integers(1, 9))
def test_repeats_are_those_that_one_process_sees(shards, in_range):
    seen, wanted, all_kept, held = Seen(), [], [], []
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "_RANGE", in_range)
        for number, images in enumerate(shards):
            images = list(dict.fromkeys(images))  # none twice within a shard
            labels = np.array([label for label, _ in images], object)
            digests = np.zeros((len(images), 16), np.uint8)
            # High words lie far apart, low words tell some images from each other.
            digests[:, 7] = [image // 2 * 90 for _, image in images]
            digests[:, 9] = [image for _, image in images]
            kept = seen.keep(labels, digests)
            wanted += kept.tolist()
            all_kept += [
                (row, digest) for row, digest in zip(labels[kept], digests[kept], strict=True)
            ]
            notes = ShardNotes({})
            names = sorted(set(labels))
            numbers = np.array([names.index(label) for label in labels], np.int32)
            notes.add(numbers, np.zeros(len(images), np.uint64), digests)
            path = pathlib.Path(name, str(number))
            path.mkdir()
            notes.finish(path, names)
            held.append((path, len(images), names))
        found = find_repeats(held, ["a", "b"])
        parts = [found.keep(np.zeros(count), None) for _, count, _ in held]
    assert np.concatenate(parts).tolist() == wanted
    labels = np.array(["ab".index(label) for label, _ in all_kept], np.int64)
    digests = np.array([digest for _, digest in all_kept], np.uint8).reshape(-1, 16)
    assert found.conflicts() == label_conflicts(["a", "b"], labels, digests) == seen.conflicts()


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=40
)


SPECS = [
    *("random:50/25/25", "capture:50/25/25", "hash:50/25/25", "session:50/25/25", "host:50/25/25"),
    *("time:50/25/25", "time:50/0/50", "family:a:80/20/0", "family:a+b", "time:fold1/3"),
    *("random:fold0/3", "host:fold2/4", "hash:fold1/3", "family:fold0/3", "capture:fold3/5"),
]


@given(ROWS, st.sampled_from(SPECS), st.integers(0, 3))
def test_groups_gathered_by_capture_are_split_as_all_at_once(rows, spec, seed):
    captures, flows, labels = np.array(sorted(rows)).T
    rng = np.random.default_rng(seed)
    digests = rng.integers(0, 256, (len(rows), 16), np.uint8)
    hosts = rng.integers(0, 6, len(rows)).astype(np.uint64)
    begins = rng.integers(0, 50, len(rows))
    times = np.stack([begins, begins + rng.integers(0, 5, len(rows))], 1)
    spec = parse_split(spec)
    names = ["c", "a", "b"][: labels.max() + 1]  # in the order in which they came
    groups = Groups(spec, seed, pathlib.Path(tempfile.gettempdir()))
    for capture in np.unique(captures):
        of = captures == capture
        groups.add(
            labels[of].astype(np.int32),
            flows[of].astype(np.uint64),
            digests[of],
            hosts[of],
            times[of],
        )
    sizes, warnings, _ = groups.deal(names)
    split = (
        np.concatenate([groups.take(3), groups.take(len(rows) - 3)])
        if len(rows) > 3
        else groups.take(len(rows))
    )
    groups.close()
    classes = sorted(names)
    numbers = np.array([classes.index(name) for name in names])[labels]
    together = {"capture": captures, "session": flows}.get(spec.key, captures * 10 + flows)
    if spec.key == "host":
        known = hosts > 0
        together = connected(*ties(together[known], hosts[known]), 100)[together]
    whole, told = assign_groups(
        classes,
        numbers,
        together,
        lambda chosen: [digests[row].tobytes().hex() for row in chosen],
        spec,
        seed,
        Spans(*times.T) if spec.key == "time" else None,
    )
    assert split.tolist() == whole.tolist() and warnings == told
    assert sum(sizes.values()) == len(rows)


def test_the_merge_holds_one_range_of_digests(tmp_path, monkeypatch):
    """Four times the sessions take four times the digests, and hardly more memory."""
    monkeypatch.setattr(repeats, "_RANGE", 4000)
    peaks = []
    for count in (20_000, 80_000):
        rng = np.random.default_rng(count)
        held = []
        for shard in range(4):
            notes = ShardNotes({})
            digests = rng.integers(0, 256, (count // 4, 16), np.uint8)
            notes.add(np.zeros(count // 4, np.int32), np.zeros(count // 4, np.uint64), digests)
            path = tmp_path / f"{count}-{shard}"
            path.mkdir()
            notes.finish(path, ["a"])
            held.append((path, count // 4, ["a"]))
        find_repeats(held, ["a"])  # imports and caches are not its own
        tracemalloc.start()
        find_repeats(held, ["a"])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 80_000 * 16 and peaks[1] < 1.25 * peaks[0] + 80_000 / 8


def test_commands_of_an_array(folder, tmp_path, capsys):
    shards = tmp_path / "shards"
    for index in range(3):
        for _ in range(2):  # a task that Slurm starts again
            status = main(
                ["convert", str(folder), "--shard", f"{index}/3", "--out", str(shards / f"{index}")]
            )
            faults = open_dataset(shards / str(index)).manifest["captures"]
            assert status == any(row["fault"] for row in faults)
        assert f"{index} is done already" in capsys.readouterr().err
    assert main(["convert", str(folder), "--shard", "3/3", "--out", str(shards / "3")]) == 1
    assert "--array=0-2" in capsys.readouterr().err
    listed = tmp_path / "shards.txt"
    listed.write_text("".join(f"{path}\n" for path in sorted(shards.iterdir(), reverse=True)))
    ways = {"folder": [str(shards)], "list": ["--list", str(listed)]}
    for name, inputs in ways.items():
        assert main(["convert", *inputs, "--out", str(tmp_path / name), "--json"]) == 1
        output = capsys.readouterr()
        assert "noise.pcap" in output.err
        assert json.loads(output.out) == open_dataset(tmp_path / name).manifest
    check_same(tmp_path / "folder", tmp_path / "list")


def test_a_job_that_is_stopped_leaves_nothing(folder, tmp_path):
    pipe = folder / "Benign" / "endless.pcap"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "xai_traffic", "convert", str(pipe), str(folder)]
    command += ["--shard", "0/1", "--workers", "1", "--out", str(tmp_path / "shards" / "0")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    for _ in range(600):
        if (tmp_path / "shards").exists() and list((tmp_path / "shards").iterdir()):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    assert list((tmp_path / "shards").iterdir()) == []
