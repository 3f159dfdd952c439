"""The loader: every session once, the same order everywhere, and exact resumption."""

import dataclasses
import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_traffic.capture.assembly import BatchMemory
from xai_traffic.data.loader import BATCHES, Loader, Ring
from xai_traffic.errors import ConfigError
from xai_traffic.parallel.mesh import make_mesh
from xai_traffic.parallel.sharding import put_batch


@dataclasses.dataclass
class Sessions:
    """What a loader needs of a dataset: ragged random sessions."""

    count: int = 53
    grid: int = 64

    def __post_init__(self):
        rng = np.random.default_rng(0)
        self.tile_counts = rng.integers(0, self.grid + 1, self.count).astype(np.int32)
        self.first_tiles = np.cumsum(self.tile_counts, dtype=np.int64) - self.tile_counts
        self.tiles = rng.integers(1, 256, (self.tile_counts.sum(), 256), np.uint8)
        self.labels = rng.integers(0, 5, self.count).astype(np.int32)


DATA = Sessions()
ROWS = np.arange(3, 50, 2)  # 24 of them


def seen(loader):
    return [batch["rows"].tolist() for batch in loader]


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_batches_hold_what_the_dataset_holds(budget):
    loader = Loader(DATA, ROWS, 7, 3, ram_budget_bytes=budget)
    assert len(loader) == 4 and loader.sessions == 24
    for batch in loader:
        assert {name: (value.dtype.name, value.shape[0]) for name, value in batch.items()} == {
            "tiles": ("uint8", 7),
            "labels": ("int32", 7),
            "weights": ("float32", 7),
            "rows": ("int64", 7),
        }
        for place, row in enumerate(batch["rows"]):
            expected = np.zeros((64, 256), np.uint8)
            if row >= 0:
                first, count = DATA.first_tiles[row], DATA.tile_counts[row]
                expected[:count] = DATA.tiles[first : first + count]
                assert batch["labels"][place] == DATA.labels[row]
            assert np.array_equal(batch["tiles"][place], expected)
            assert batch["weights"][place] == (row >= 0)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 40), st.sampled_from([1, 2, 3]), st.integers(1, 5), st.booleans(), st.booleans()
)
def test_every_row_once_over_all_processes(rows, processes, share, shuffle, budget):
    size = processes * share
    loaders = [
        Loader(
            DATA,
            np.arange(rows),
            size,
            1,
            shuffle=shuffle,
            part=index,
            parts=processes,
            ram_budget_bytes=budget << 30,
        )
        for index in range(processes)
    ]
    whole = seen(Loader(DATA, np.arange(rows), size, 1, shuffle=shuffle))
    parts = [seen(loader) for loader in loaders]
    glued = [sum(each, []) for each in zip(*parts, strict=True)]
    assert glued == whole
    flat = [row for batch in whole for row in batch if row >= 0]
    assert sorted(flat) == list(range(rows)) and (shuffle or flat == sorted(flat))


def test_order_is_a_function_of_seed_and_epoch():
    loader = Loader(DATA, ROWS, 4, 7)
    first, second = seen(loader), seen(loader)
    assert first != second and sorted(sum(first, [])) == sorted(sum(second, []))
    again = Loader(DATA, ROWS, 4, 7)
    again.restore({"epoch": 1, "step": 0})
    assert seen(again) == second
    assert seen(Loader(DATA, ROWS, 4, 8)) != first
    still = Loader(DATA, ROWS, 4, 7, shuffle=False)
    assert seen(still) == seen(still)


@pytest.mark.parametrize("stop", [0, 1, 3, 5, 6])
def test_resumes_exactly(stop):
    loader = Loader(DATA, ROWS, 4, 7)
    whole = seen(loader) + seen(loader)
    loader = Loader(DATA, ROWS, 4, 7)
    iterator = iter(loader)
    begun = [next(iterator)["rows"].tolist() for _ in range(stop)]
    state = loader.state()
    assert state == {"epoch": 0, "step": stop}
    other = Loader(DATA, ROWS, 4, 7)
    other.restore(state)
    assert begun + seen(other) + seen(other) == whole
    assert other.state() == {"epoch": 2, "step": 0}


def test_last_short_batch():
    full = Loader(DATA, ROWS, 10, 0, drop_last=True)
    assert len(full) == 2 and all(batch["weights"].all() for batch in full)
    padded = list(Loader(DATA, ROWS, 10, 0, shuffle=False))
    assert [batch["weights"].sum() for batch in padded] == [10, 10, 4]
    assert not padded[-1]["tiles"][4:].any() and (padded[-1]["rows"][4:] == -1).all()


def test_other_labels():
    labels = np.arange(DATA.count)
    for batch in Loader(DATA, ROWS, 8, 0, labels=labels):
        assert np.array_equal(batch["labels"], batch["rows"])


def test_small_grids():
    data = Sessions(5, 4)
    batch = next(iter(Loader(data, np.arange(5), 5, 0)))
    assert batch["tiles"].shape == (5, 4, 256)


def test_no_sessions_of_a_process_in_the_last_batch():
    loader = Loader(DATA, ROWS[:5], 4, 0, part=1, parts=2)
    assert [batch["weights"].sum() for batch in loader] == [2, 0]


def test_memory_is_used_again_when_nobody_has_it():
    ring = Ring(2, 64)
    first, count = DATA.first_tiles[:2], DATA.tile_counts[:2]

    def fill():
        return ring.take().fill(DATA.tiles, first, count)

    address = fill().ctypes.data  # given back at once
    assert fill().ctypes.data == address
    held = [fill()[1:] for _ in range(BATCHES + 2)]  # views, beyond what is kept
    assert len({view.ctypes.data for view in held}) == len(held)
    assert all(np.array_equal(view[0], held[0][0]) for view in held)
    address = held.pop(2).ctypes.data
    assert fill()[1:].ctypes.data == address
    memory = memoryview(fill())
    assert fill().ctypes.data != np.asarray(memory).ctypes.data


@pytest.mark.parametrize(
    "put",
    [
        jax.device_put,
        jnp.asarray,
        jax.jit(lambda tiles: tiles),
        lambda tiles: put_batch({"tiles": tiles}, make_mesh())["tiles"],
    ],
)
def test_batches_on_the_device_stay_what_they_are(put):
    """On a CPU the device takes the memory as it lies; it must not be written again."""
    wanted = [batch["tiles"].copy() for batch in Loader(DATA, ROWS, 8, 0)]
    on_device = [put(batch["tiles"]) for batch in Loader(DATA, ROWS, 8, 0)]
    for array, right in zip(on_device, wanted, strict=True):
        np.testing.assert_array_equal(array, right)


def test_memory_that_a_device_took_is_in_use():
    memory = BatchMemory(2)
    assert not memory.in_use
    taken = jax.device_put(memory.batch).block_until_ready()
    same = taken.unsafe_buffer_pointer() == memory.batch.ctypes.data
    if jax.default_backend() == "cpu":
        assert same, "JAX copies what it could take: ALIGNMENT has changed"
    assert memory.in_use or not same
    del taken
    gc.collect()
    assert not memory.in_use


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 5, "parts": 2}, "does not divide into 2"),
        ({"batch_size": 0}, "does not divide"),
        ({"batch_size": 4, "part": 1}, "part 1 of 1"),
        ({"batch_size": 25, "drop_last": True}, "choose at most 24"),
        ({"batch_size": 4, "rows": np.zeros(0, int)}, "split is empty"),
    ],
)
def test_wrong_wishes_are_explained(options, message):
    with pytest.raises(ConfigError, match=message):
        Loader(DATA, **{"rows": ROWS, **options})


def test_positions_that_do_not_exist():
    loader = Loader(DATA, ROWS, 4, 0)
    with pytest.raises(ConfigError, match="an epoch has 6 steps"):
        loader.restore({"epoch": 0, "step": 7})
