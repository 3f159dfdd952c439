"""Splits: exact where they can be, whole groups always, and loud where a class falls short."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whole_split import assign_split, five_tuple_groups

from xai_traffic.data.deal import largest_remainder
from xai_traffic.data.split import SPLITS, parse_split
from xai_traffic.errors import ConfigError


def sessions(labels, captures=None, hosts=None, hashes=None):
    """Make a table; sessions of equal host are of one 5-tuple, every second one reversed."""
    count = len(labels)
    hosts = list(range(count)) if hosts is None else hosts
    ends = [(f"10.0.{host // 250}.{host % 250}", "192.0.2.1") for host in hosts]
    ports = [(40000, 443)] * count
    for row in range(1, count, 2):
        ends[row], ports[row] = ends[row][::-1], ports[row][::-1]
    return pa.table(
        {
            "capture": pa.array(captures or ["c"] * count, pa.string()),
            "protocol": pa.array(["tcp"] * count, pa.string()),
            "source": pa.array([end[0] for end in ends], pa.string()),
            "destination": pa.array([end[1] for end in ends], pa.string()),
            "source_port": pa.array([port[0] for port in ports], pa.int32()),
            "destination_port": pa.array([port[1] for port in ports], pa.int32()),
            "label": pa.array(labels, pa.string()),
            "content_hash": pa.array(
                hashes or [f"{row:032x}" for row in range(count)], pa.string()
            ),
        }
    )


def counts(split):
    return np.bincount(split, minlength=3).tolist()


def test_specs_are_parsed():
    spec = parse_split("random:70/10/20")
    assert (spec.key, spec.shares, str(spec)) == ("random", (70, 10, 20), "random:70/10/20")
    assert str(parse_split(" hash:79.5/0.5/20 ")) == "hash:79.5/0.5/20"
    for text in ("host:fold2/5", "family:bot:80/20/0", "family:a:b+c:60/20/20", "time:50/0/50"):
        assert str(parse_split(text)) == text == str(parse_split(str(parse_split(text))))
    assert str(parse_split("family:bot")) == "family:bot:70/10/20"
    assert parse_split("host:fold4/5").fold.places().tolist() == [1, 0, 0, 0, 2]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("70/10/20", "no ':'"),
        ("day:70/10/20", "key 'day'"),
        ("random:70/20", "2 shares"),
        ("random:70/20/20", "sum to 110"),
        ("random:a/b/c", "numbers"),
        ("random:120/-20/0", "between"),
        ("random:nan/50/50", "between"),
        ("host:fold5/5", "the last of 5 is fold4/5"),
        ("host:fold0/2", "3 folds or more"),
        ("family:", "class to leave out is missing"),
        ("family:bot:50/20/20", "sum to 90"),
    ],
)
def test_wrong_specs_are_explained(spec, message):
    with pytest.raises(ConfigError, match=message):
        parse_split(spec)


@given(st.integers(0, 5000), st.sampled_from([(70, 10, 20), (33, 33, 34), (100, 0, 0)]))
def test_largest_remainder(total, shares):
    made = largest_remainder(total, shares)
    assert made.sum() == total
    assert np.all(np.abs(made - total * np.array(shares) / 100) < 1)


def test_single_sessions_are_split_exactly_per_class():
    table = sessions(["a"] * 100 + ["b"] * 33 + ["c"] * 7)
    split, warnings = assign_split(table, parse_split("random:70/10/20"), 3)
    assert counts(split[:100]) == [70, 10, 20]
    assert counts(split[100:133]) == [23, 3, 7]
    assert counts(split[133:]) == [5, 1, 1]
    assert warnings == []


def test_the_draw_is_a_function_of_the_seed_and_of_the_class():
    table = sessions(["a"] * 60 + ["b"] * 60)
    spec = parse_split("random:50/25/25")
    first, again, other = (assign_split(table, spec, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[:60], first[60:])
    alone = assign_split(table.slice(0, 60), spec, 1)[0]
    assert np.array_equal(alone, first[:60])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12)), min_size=1, max_size=80),
    st.sampled_from(["random:70/10/20", "random:50/0/50", "capture:60/20/20", "hash:40/30/30"]),
    st.integers(0, 3),
)
def test_groups_stay_together(rows, spec, seed):
    labels, hosts = [label for label, _ in rows], [host for _, host in rows]
    captures = [f"{host % 5}.pcap" for host in hosts]
    table = sessions(labels, captures, hosts)
    split, _ = assign_split(table, parse_split(spec), seed)
    groups = captures if spec.startswith("capture") else hosts
    assert len({*zip(groups, split.tolist(), strict=True)}) == len(set(groups))
    if spec.endswith("/0/50"):
        assert not np.any(split == 1)


def test_big_groups_leave_the_counts_exact():
    hosts = [0] * 30 + [1] * 9 + [2] * 5 + [*range(3, 59)]
    split, _ = assign_split(sessions(["a"] * 100, hosts=hosts), parse_split("random:70/10/20"), 0)
    assert counts(split) == [70, 10, 20]


def test_reversed_sessions_are_of_one_group_and_captures_apart():
    table = sessions(["a"] * 4, ["x", "x", "y", "y"], [7, 7, 7, 8])
    groups = five_tuple_groups(table)
    assert groups[0] == groups[1] and len(set(groups.tolist())) == 3


def test_too_few_groups_go_to_train_first_then_test():
    spec = parse_split("random:70/10/20")
    split, warnings = assign_split(sessions(["a"] * 5, hosts=[0] * 5), spec, 0)
    assert counts(split) == [5, 0, 0]
    assert "class a: no session in validation and test" in warnings[0]
    split, warnings = assign_split(sessions(["a"] * 60, hosts=[0] * 40 + [1] * 20), spec, 0)
    assert counts(split) == [40, 0, 20] and "in 2 5-tuples" in warnings[0]
    split, _ = assign_split(sessions(["a"]), parse_split("random:30/30/40"), 0)
    assert counts(split) == [1, 0, 0]


def test_whole_captures_are_stratified_by_label():
    labels, captures = [], []
    for label in "ab":
        for number in range(20):
            size = 1 + number % 4
            labels += [label] * size
            captures += [f"{label}{number}"] * size
    split, warnings = assign_split(sessions(labels, captures), parse_split("capture:60/20/20"), 0)
    assert warnings == []
    for part in (split[:50], split[50:]):
        assert np.abs(np.array(counts(part)) - [30, 10, 10]).max() <= 1


def test_captures_of_many_labels():
    labels = (["web"] * 8 + ["scan"] * 2) * 10
    captures = [f"day{row // 10}" for row in range(100)]
    split, _ = assign_split(sessions(labels, captures), parse_split("capture:60/20/20"), 0)
    assert counts(split) == [60, 20, 20]


def test_one_capture_a_class_is_named():
    table = sessions(["a"] * 9 + ["b"] * 9, ["a"] * 9 + ["b"] * 9)
    split, warnings = assign_split(table, parse_split("capture:70/10/20"), 0)
    assert counts(split) == [18, 0, 0]
    assert len(warnings) == 2 and "in 1 capture," in warnings[0]


def test_a_class_that_one_capture_teaches_is_named():
    captures = ["big"] * 70 + [f"c{n}" for n in range(30)]
    table = sessions(["a"] * 100, captures, hosts=[*range(100)])
    split, warnings = assign_split(table, parse_split("capture:70/10/20"), 0)
    assert counts(split) == [70, 10, 20] and len(warnings) == 1
    assert "its 70 sessions in train are all of one capture, of 31 that have it" in warnings[0]
    for rest, spec in ((table.slice(60), "70/10/20"), (table.slice(0, 70), "100/0/0")):
        assert assign_split(rest, parse_split(f"capture:{spec}"), 0)[1] == []


def test_hash_is_stable_when_data_are_added():
    spec = parse_split("hash:70/10/20")
    labels = ["a", "b"] * 1000
    small = sessions(labels[:500])
    large = sessions(labels)
    first, then = assign_split(small, spec, 5)[0], assign_split(large, spec, 5)[0]
    assert np.array_equal(first, then[:500])
    assert np.abs(np.array(counts(then)) / 2000 - [0.7, 0.1, 0.2]).max() < 0.04
    assert not np.array_equal(assign_split(large, spec, 6)[0], then)


def test_a_class_without_training_sessions_is_named():
    split, warnings = assign_split(sessions(["a"] * 4), parse_split("random:0/50/50"), 0)
    assert counts(split) == [0, 2, 2] and warnings == []
    table = sessions(["a"] * 3)
    for seed in range(50):
        split, warnings = assign_split(table, parse_split("hash:50/0/50"), seed)
        if counts(split)[0] == 0:
            assert "nothing to learn it from" in warnings[0]
            break
    assert SPLITS[split[0]] == "test"


def test_an_empty_table_is_no_trouble():
    assert assign_split(sessions([]), parse_split("random:70/10/20"), 0)[0].shape == (0,)


def clients(labels, initiators, captures=None, begins=None, lasts=None):
    """Make a table; each session is of another 5-tuple, begun by one of some clients."""
    count = len(labels)
    table = sessions(labels, captures, list(range(count)))
    begins = list(range(count)) if begins is None else begins
    ends = [begin + last for begin, last in zip(begins, lasts or [0] * count, strict=True)]
    for name, column in (
        ("source", pa.array([f"10.9.0.{client}" for client in initiators], pa.string())),
        ("destination", pa.array(["192.0.2.1"] * count)),
        ("source_port", pa.array(range(1000, 1000 + count), pa.int32())),
        ("destination_port", pa.array([443] * count, pa.int32())),
        ("first_time", pa.array(begins, pa.int64())),
        ("last_time", pa.array(ends, pa.int64())),
    ):
        place = table.column_names.index(name) if name in table.column_names else None
        if place is None:
            table = table.append_column(name, column)
        else:
            table = table.set_column(place, name, column)
    return table


ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 60), st.integers(0, 6)),
    min_size=1,
    max_size=80,
)
RESTS = st.sampled_from(["60/20/20", "50/0/50", "fold1/4", "fold3/4"])
KEYS = st.sampled_from(["host", "capture", "random", "session", "time", "family", "hash"])


@settings(max_examples=60, deadline=None)
@given(
    ROWS, KEYS, st.sampled_from(["60/20/20", "50/0/50", "fold1/4", "fold3/4"]), st.integers(0, 3)
)
def test_every_key_keeps_its_promise(rows, key, rest, seed):
    labels, initiators, begins, lasts = (list(column) for column in zip(*rows, strict=True))
    captures = [f"{initiator % 4}.pcap" for initiator in initiators]
    table = clients(labels, initiators, captures, begins, lasts)
    if key == "family" and not rest.startswith("fold"):
        rest = f"a:{rest}"
    spec = parse_split(f"{key}:{rest}")
    split, _ = assign_split(table, spec, seed)
    assert np.array_equal(split, assign_split(table, spec, seed)[0])
    assert np.all(split < 3) or key == "time"
    kept = {"host": initiators, "capture": captures}.get(key)
    if kept:
        assert len({*zip(kept, split.tolist(), strict=True)}) == len(set(kept))
    if key == "family":
        left_out = spec.left_out(sorted(set(labels)))
        for label, place in zip(labels, split.tolist(), strict=True):
            assert place == 2 if label in left_out else (place < 2 or spec.fold is None)
    if key == "time":
        ends = np.add(begins, lasts)
        for one in range(3):
            for other in range(one + 1, 3):
                a, b = split == one, split == other
                if spec.fold is None and a.any() and b.any():
                    assert ends[a].max() < np.min(np.array(begins)[b])
                for row in np.flatnonzero(a):
                    meets = (np.array(begins)[b] <= ends[row]) & (ends[b] >= begins[row])
                    assert not meets.any()


@pytest.mark.parametrize("key", ["random", "host", "capture", "hash", "session", "time", "family"])
def test_folds_test_every_session_once(key):
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c", "d"], 400).tolist()
    initiators = rng.integers(0, 40, 400).tolist()
    table = clients(labels, initiators, [f"{host % 20}" for host in initiators])
    splits = np.stack(
        [assign_split(table, parse_split(f"{key}:fold{index}/4"), 7)[0] for index in range(4)]
    )
    assert ((splits == 2).sum(0) == 1).all()
    if key != "family":
        assert ((splits == 1).sum(0) == 1).all()
        assert np.array_equal(splits[0] == 2, splits[3] == 1)
    if key in ("random", "session", "time"):
        assert np.all(np.abs((splits == 2).sum(1) - 100) <= 4)  # a remainder of each class


@pytest.mark.parametrize(("held", "told"), [(9, "9 sessions"), (1, "1 session")])
def test_a_class_of_one_host_is_named_with_a_remedy(held, told):
    table = clients(["a"] * 30 + ["b"] * held, [n % 10 for n in range(30)] + [77] * held)
    split, warnings = assign_split(table, parse_split("host:60/20/20"), 0)
    assert set(split[30:]) == {0} and set(split[:30]) == {0, 1, 2}
    assert "class b: no session in validation and test" in warnings[0]
    assert f"{told} in 1 host" in warnings[0] and "split by another key" in warnings[0]


def test_what_lasts_across_a_boundary_is_unused():
    table = clients(["a"] * 10, range(10), begins=list(range(10)), lasts=[0] * 4 + [3] + [0] * 5)
    split, _ = assign_split(table, parse_split("time:60/20/20"), 0)
    assert split.tolist() == [0, 0, 0, 0, 3, 0, 1, 1, 2, 2]


def test_a_family_is_left_out_and_the_others_stay_where_they_were():
    labels = ["a"] * 50 + ["b"] * 50 + ["a+b"] * 20
    table = clients(labels, [0] * 120)
    plain, _ = assign_split(table, parse_split("random:70/10/20"), 3)
    one, warnings = assign_split(table, parse_split("family:b"), 3)
    assert warnings == [] and np.array_equal(one[:50], plain[:50]) and set(one[50:100]) == {2}
    named, _ = assign_split(table, parse_split("family:a+b"), 3)
    assert set(named[100:]) == {2} and set(named[:50]) == {0, 1, 2}
    both, _ = assign_split(table.slice(0, 100), parse_split("family:a+b"), 3)
    assert set(both) == {2}
    with pytest.raises(ConfigError, match="no class 'x'.*leave out one of a, b"):
        parse_split("family:x").check_left_out(["a", "b"])
    parse_split("family:fold2/5").check_left_out(["a", "b", "c"])
    with pytest.raises(ConfigError, match="of 3 classes this fold leaves out none: take 3 folds"):
        parse_split("family:fold4/5").check_left_out(["a", "b", "c"])


def test_a_session_in_two_captures_stays_together_under_session_alone():
    table = sessions(["a"] * 80, ["x"] * 40 + ["y"] * 40, [*range(40), *range(40)])
    for key, together in (("session", True), ("random", False)):
        split, _ = assign_split(table, parse_split(f"{key}:50/25/25"), 0)
        assert np.array_equal(split[:40], split[40:]) is together
