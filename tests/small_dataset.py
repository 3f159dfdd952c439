"""A small dataset whose classes are told apart by a few bytes, for tests of the training."""

import atexit
import pathlib
import shutil
import tempfile
from typing import Any

import jax
import ml_collections
import numpy as np
import pyarrow as pa

from xai_traffic.capture.masking import MASK_VERSION
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.data.writer import DatasetWriter
from xai_traffic.training.config import load_config

CLASSES = ["Chat", "Htbot <b>", "Virut"]
CACHE = tempfile.mkdtemp(prefix="xai-traffic-compiled-")
"""Compiled programs, shared by the trainings of one test session."""
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
TINY = {"depth": 1, "dim": 16, "mlp_dim": 16, "encoding": "scaled", "packets": 8}
"""Options of a ViT that compiles in a second."""


def tiny_config(dataset: Dataset, **overrides: Any) -> ml_collections.ConfigDict:
    """Return a config of a tiny ViT: 4 steps an epoch, two epochs, one device."""
    return load_config(
        "configs/vit.py:multiclass,debug",
        **{
            "data.path": dataset.path,
            "model.options": TINY,
            "compilation_cache": CACHE,
            "log.images": 0,
            "log.every_steps": 1,
            "optimizer.learning_rate": 1e-2,
            **overrides,
        },
    )


def make_dataset(
    folder: pathlib.Path,
    *,
    sessions: int = 90,
    mask: str = "none",
    classes: list[str] = CLASSES,
    seed: int = 0,
) -> Dataset:
    """Write a dataset: 80 bytes of each packet name the class, those before them are noise.

    The first class is Benign; of every ten sessions seven are train, two validation, one test.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    labels = np.arange(sessions) % len(classes)
    counts = rng.integers(1, 5, sessions)
    first = np.cumsum(counts) - counts
    times = pa.array(np.arange(sessions) * 10**9, pa.timestamp("ns", tz="UTC"))
    names = [classes[label] for label in labels]
    columns = {
        "session": np.arange(sessions),
        "capture": [f"{name}.pcap" for name in names],
        "protocol": ["tcp"] * sessions,
        "source": ["10.0.0.1"] * sessions,
        "source_port": np.full(sessions, 1234, np.int32),
        "destination": ["10.0.0.2"] * sessions,
        "destination_port": np.full(sessions, 80, np.int32),
        "first_time": times,
        "last_time": times,
        "packets": counts.astype(np.int64),
        "bytes": counts.astype(np.int64) * 100,
        "community_id": ["1:x"] * sessions,
        "end": ["capture end"] * sessions,
        "first_tile": first,
        "tiles": counts.astype(np.int32),
        "packet_rows": np.zeros(sessions, np.int32),
        "label": names,
        "binary_label": ["Malware" if label else "Benign" for label in labels],
        "split": [
            "train" if k < 7 else "validation" if k < 9 else "test"
            for k in (np.arange(sessions) // len(classes)) % 10
        ],
        "content_hash": [f"{seed}-{number}" for number in range(sessions)],
        **dict.fromkeys(("tunnel", "outer_source", "outer_destination"), [None] * sessions),
        "depth": np.zeros(sessions, np.uint8),
        **dict.fromkeys(("icmp_type", "icmp_code"), [None] * sessions),
    }
    with DatasetWriter(folder) as writer:
        for label, count in zip(labels, counts, strict=True):
            tiles = np.zeros((count, 256), np.uint8)
            tiles[:, :100] = rng.integers(0, 256, (count, 100))
            tiles[:, 20:100] = 60 + 60 * label
            writer.append(tiles, pa.table({}))
        manifest = {
            "rules": ReadingRules(mask=mask).to_dict(),
            "mask_version": MASK_VERSION,
            "classes": list(classes),
            "seed": seed,
        }
        writer.finish(pa.table(columns), manifest)
    return open_dataset(folder)
