"""Time a Vision Transformer on sessions of few packets: the dense grid, and packed tokens.

    python benchmarks/packed.py training|inference dense|packed MODEL DTYPE BATCH MEAN SECONDS SEED

Started by benchmarks/training.py and inference.py. The network looks at no empty tile, so both ways
compute the same logits. Sessions are ragged, MEAN of 64 tiles on average: 20 as in captures of
ordinary traffic, 3.5 as in the prefixes of USTC-TFC2016. In training the loader's own batches lie
on the device before, as many as show how full the rows are; judging goes from images to logits, as
`Run.predict` does.
"""

from __future__ import annotations

import itertools
import json
import sys
import types
from collections.abc import Callable

import jax
import numpy as np
from model_cases import CLASSES, all_models
from model_runs import jit_training
from step_timing import peak_of_process, time_steps

from xai_traffic.capture.images import images_of
from xai_traffic.data.loader import Loader
from xai_traffic.data.packing import Packing
from xai_traffic.models import Model, build
from xai_traffic.parallel.mesh import make_mesh
from xai_traffic.parallel.sharding import put_batch
from xai_traffic.training.inference import DENSE, compile_judge, judge_images

BATCHES = 8
"""That training goes through again and again."""

JUDGED = 1024
"""Sessions that are judged in one step, as a capture hands them over."""


def made_sessions(count: int, mean: float, seed: int) -> types.SimpleNamespace:
    """Return what a loader needs of a dataset: ragged sessions of random bytes."""
    rng = np.random.default_rng(seed)
    counts = np.clip(rng.geometric(1 / mean, count), 1, 64).astype(np.int32)
    return types.SimpleNamespace(
        tile_counts=counts,
        first_tiles=np.cumsum(counts, dtype=np.int64) - counts,
        tiles=rng.integers(1, 256, (int(counts.sum()), 256), np.uint8),
        labels=rng.integers(0, CLASSES, count).astype(np.int32),
        grid=64,
    )


def masked_model(name: str, dtype: str) -> Model:
    """Return a Vision Transformer of the benchmarks that looks at no empty tile."""
    bench = all_models()[name]
    return build(bench.family, CLASSES, variant=bench.variant, dtype=dtype, mask_empty=True)


def training(
    way: str, name: str, dtype: str, batch_size: int, mean: float, seconds: float, seed: int
) -> dict:
    """Time training steps over batches that lie on the device."""
    model, mesh = masked_model(name, dtype), make_mesh(1)
    data = made_sessions(BATCHES * batch_size, mean, seed)
    packets = model.packets if way == "packed" else 0
    loader = Loader(data, np.arange(len(data.labels)), batch_size, seed, packets=packets)
    step, state = jit_training(name, model, seed)
    batches = []
    for batch in loader:
        del batch["rows"]
        batches.append(put_batch(batch, mesh))
    kept, turn = [state], itertools.cycle(batches)
    del state  # the step gives its memory to the next one

    def one() -> jax.Array:
        kept[0], metrics = step(kept[0], next(turn), None)
        return metrics["loss"]

    for _ in batches:  # rows differ in number: some programs more are compiled
        jax.block_until_ready(one())
    timed = time_steps(one, lambda loss: jax.block_until_ready((kept[0], loss)), seconds)
    slots = [_slots(batch.get("packing"), batch_size) for batch in batches]
    return {
        **timed,
        "sessions": timed["steps"] * batch_size,
        "slots": float(np.mean(slots)) / batch_size,
        "tokens": float(data.tile_counts.mean()) + 1,
    }


def _slots(packing: Packing | None, batch_size: int) -> int:
    return packing.session.size if packing else batch_size * 65


def inference(
    way: str, name: str, dtype: str, batch_size: int, mean: float, seconds: float, seed: int
) -> dict:
    """Time the judging of images that lie in the host's memory."""
    model = masked_model(name, dtype)
    count = JUDGED if batch_size > 16 else 4 * DENSE[-1]
    data = made_sessions(count, mean, seed)
    images = images_of(data.tiles, data.first_tiles, data.tile_counts)[..., None]
    variables, judge = model.init(jax.random.key(seed)), compile_judge(model)

    def packed() -> np.ndarray:
        return judge_images(judge, model, variables, images)

    def dense() -> np.ndarray:
        starts = range(0, count, DENSE[-1])
        parts = [judge(variables, images[start : start + DENSE[-1]], None) for start in starts]
        return np.concatenate([np.asarray(part) for part in parts])

    ways: dict[str, Callable[[], np.ndarray]] = {"packed": packed, "dense": dense}
    timed = time_steps(ways[way], lambda logits: logits, seconds)
    return {**timed, "sessions": timed["steps"] * count}


def main() -> None:
    """Run what the command line asks for."""
    what, way, name, dtype, batch_size, mean, seconds, seed = sys.argv[1:]
    measure = {"training": training, "inference": inference}[what]
    numbers = int(batch_size), float(mean), float(seconds), int(seed)
    print(json.dumps({**measure(way, name, dtype, *numbers), "peak": peak_of_process()}))


if __name__ == "__main__":
    main()
