"""Image sets of 784 bytes can be trained on: their four tiles stand for four packets."""

import gzip

import numpy as np
import pytest
from small_dataset import CACHE

from xai_traffic.capture.layouts import model_layout
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset
from xai_traffic.errors import ConfigError
from xai_traffic.evaluation.evaluate import evaluate
from xai_traffic.training.config import load_config
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    rng = np.random.default_rng(0)
    for name, value in (("Benign/FTP", 40), ("Malware/Zeus", 200)):
        images = rng.integers(0, 256, (60, 784), dtype=np.uint8)
        images[:, 100:400] = value
        path = folder / "in" / f"{name}-session-idx3-ubyte.gz"
        path.parent.mkdir(parents=True)
        head = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (60, 28, 28))
        path.write_bytes(gzip.compress(head + images.tobytes()))
    rules = ReadingRules(layout="ustc28", layers="payload")
    return open_dataset(convert([folder / "in"], folder / "data", rules=rules).dataset)


def test_the_four_tiles_lie_in_the_grid(dataset):
    rows = np.arange(5)
    grid = dataset.images(rows, model_layout("ustc28"))
    assert grid.shape == (5, 128, 128)
    tiles = grid[:, :16].reshape(5, 16, 8, 16).transpose(0, 2, 1, 3).reshape(5, -1)
    np.testing.assert_array_equal(tiles[:, :784], dataset.images(rows).reshape(5, 784))
    assert not tiles[:, 784:].any() and not grid[:, 16:].any()
    assert model_layout("tiles") == "tiles" and model_layout("heifip-none") == "heifip-none"
    with pytest.raises(ConfigError, match="layout 'packet' is none that models read"):
        model_layout("packet")


@pytest.mark.parametrize("words", ["vit.py:binary,debug", "cnn.py:binary,debug"])
def test_it_is_learnt_and_judged_the_same_from_memory_and_from_disk(tmp_path, dataset, words):
    scores = []
    for budget in (4.0, 0.0):  # tiles on the device, or batch by batch
        config = load_config(
            f"configs/{words}",
            **{
                "data.path": dataset.path,
                "data.device_budget": budget,
                "data.pack": False,
                "epochs": 6,
                "optimizer.learning_rate": 3e-3,
                "optimizer.ema": 0.0,
                "augment.payload_dropout": 0.0,
                "augment.header_dropout": 0.0,
                "compilation_cache": CACHE,
                **({"model.options": {"strung": False}} if words.startswith("cnn") else {}),
            },
        )
        result = train(config, tmp_path / str(budget))
        run = load_run(tmp_path / str(budget))
        scores.append((result["params_sha256"], evaluate(run, "test")["accuracy"]))
    assert scores[0] == scores[1] and scores[0][1] > 0.9
