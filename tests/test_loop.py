"""The loop and its parts: losses, weights, schedules, augmentation, stopping, and bad numbers."""

import ast
import csv
import dataclasses
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_dataset import CLASSES, make_dataset, tiny_config

from xai_traffic.errors import ConfigError, RunError
from xai_traffic.models import build
from xai_traffic.training import loop
from xai_traffic.training.augment import (
    augment,
    byte_dropout,
    byte_swap,
    header_dropout,
    mixup,
    packet_dropout,
    payload_dropout,
    tail_dropout,
)
from xai_traffic.training.config import load_config
from xai_traffic.training.job import permuted_labels, prepare
from xai_traffic.training.logging import read_events
from xai_traffic.training.loop import train
from xai_traffic.training.losses import (
    balanced_weights,
    cross_entropy,
    one_hot,
    smooth,
    weighted_mean,
)
from xai_traffic.training.metrics import add_batch, empty_sums, scores_of
from xai_traffic.training.optim import make_optimizer, make_schedule, move_average
from xai_traffic.training.remat import REMAT, rematerialised
from xai_traffic.training.state import TrainState
from xai_traffic.training.steps import unless_not_finite
from xai_traffic.training.stopping import Stopping

RNG = jax.random.key(0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("loop") / "dataset")


def test_learns_and_leaves_everything_behind(dataset, tmp_path):
    config = tiny_config(dataset, epochs=8, **{"log.images": 1, "log.every_steps": 4})
    config.augment.byte_swap, config.optimizer.ema = 0.0, 0.0
    config.augment.payload_dropout = 0.0
    result = train(config, tmp_path)
    assert result["best"]["accuracy"] > 0.9
    assert result["step"] == 8 * (63 // 16)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert json.loads((tmp_path / "reading.json").read_text())["classes"] == CLASSES
    assert json.loads((tmp_path / "config.json").read_text())["epochs"] == 8
    tags = {
        value.tag
        for path in (tmp_path / "events" / "train").iterdir()
        for _, event in read_events(path)
        for value in event.summary.value
    }
    assert {
        "train/loss",
        "train/learning_rate",
        "train/images_per_second",
        "validation/macro_f1",
        "validation/confusion_matrix",
        "examples/0",
        "config/text_summary",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    } <= tags


@pytest.mark.parametrize("pack", [False, True])
def test_same_bits_whether_tiles_stay_on_the_device_or_come_with_the_batch(dataset, tmp_path, pack):
    results = [
        train(
            tiny_config(dataset, **{"data.device_budget": budget, "data.pack": pack}),
            tmp_path / str(budget),
        )
        for budget in (4.0, 0.0)
    ]
    assert results[0]["params_sha256"] == results[1]["params_sha256"]
    assert results[0]["best"] == results[1]["best"]
    assert results[0]["seconds_to_first_step"] > 0


@pytest.mark.parametrize("family", ["vit", "xception"])
def test_remat_keeps_less_and_changes_no_gradient(family):
    model = build(family, 3, variant="debug")
    variables = model.init(RNG)
    images = np.random.default_rng(0).integers(0, 256, (4, 128, 128, 1)).astype(np.float32)

    def loss(params):
        return jnp.sin(model.apply_train({**variables, "params": params}, images, RNG)[0]).sum()

    gradients, kept = {}, {}
    for choice in REMAT:
        function = rematerialised(loss, choice)
        gradients[choice] = jax.jit(jax.grad(function))(variables["params"])
        backward = jax.eval_shape(lambda p, f=function: jax.vjp(f, p)[1], variables["params"])
        kept[choice] = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))
    assert kept["blocks"] < kept["products"] < kept["none"]
    for choice in ("products", "blocks"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3),
            gradients[choice],
            gradients["none"],
        )


def test_loss_that_is_not_finite_names_step_sessions_and_checkpoint(dataset, tmp_path):
    config = tiny_config(dataset, **{"optimizer.name": "sgd", "optimizer.clip": 0.0})
    config.optimizer.learning_rate = 1e38
    config.optimizer.schedule = "constant"
    with pytest.raises(RunError, match=r"step \d+: .*not finite.* session \d+.*checkpoint"):
        train(config, tmp_path)
    report = json.loads((tmp_path / "not-finite.json").read_text())
    assert len(report["sessions"]) == 16
    assert set(report["sessions"][0]) == {"capture", "session"}
    assert not (tmp_path / "result.json").exists()


def hurt_some_steps(job, hurt):
    """Return a job whose batches of some steps (by state.step) have weights that are not finite."""
    step = job.train_step

    def train_step(state, batch, tiles):
        with jax.transfer_guard("allow"):
            if int(state.step) in hurt:
                batch = {**batch, "weights": batch["weights"] * np.float32("nan")}
            return step(state, batch, tiles)

    return dataclasses.replace(job, train_step=train_step)


@pytest.mark.parametrize(("hurt", "most"), [((1, 2, 4), 2), ((1, 2), 1), ((0, 1, 2, 3), 3)])
def test_skipped_updates_are_counted_and_stop_where_they_go_on(
    dataset, tmp_path, monkeypatch, hurt, most
):
    monkeypatch.setattr(
        loop, "prepare", lambda config, make=loop.prepare: hurt_some_steps(make(config), hurt)
    )
    config = tiny_config(
        dataset, **{"loss.not_finite": "skip", "loss.skips_in_a_row": most, "log.images": 0}
    )
    in_a_row = {(1, 2, 4): 2, (1, 2): 2, (0, 1, 2, 3): 4}[hurt]
    if in_a_row > most:
        with pytest.raises(RunError, match=f"the {in_a_row} last ones alike.*skips_in_a_row is"):
            train(config, tmp_path)
        return
    result = train(config, tmp_path)
    assert result["skipped"] == len(hurt)
    with open(tmp_path / "metrics.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if not row["validation/loss"]]
    assert [int(float(row["train/skipped"])) for row in rows] == [0, 1, 2, 2, 3, 3]
    assert [bool(row["train/loss"]) for row in rows] == [step not in hurt for step in range(6)]
    assert np.isfinite(result["best"]["loss"])
    assert json.loads((tmp_path / "not-finite.json").read_text())["step"] == 5


def test_skipped_update_changes_nothing_but_the_step():
    before = TrainState(
        jnp.int32(3), {"params": {"a": jnp.ones(2)}}, {"a": jnp.zeros(2)}, {"count": jnp.int32(3)}
    )
    after = jax.tree.map(lambda leaf: leaf + 1, before)
    finite, nan = jnp.float32(1), jnp.float32("nan")
    taken = unless_not_finite({"loss": finite, "gradient_norm": finite}, before, after)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), taken, after))
    for numbers in ((nan, finite), (finite, nan), (finite, jnp.float32("inf"))):
        metrics = dict(zip(("loss", "gradient_norm"), numbers, strict=True))
        left = unless_not_finite(metrics, before, after)
        assert int(left.step) == 4
        left = dataclasses.replace(left, step=before.step)
        assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), left, before))


def test_binary_task_has_two_logits_in_bfloat16_too(dataset, tmp_path):
    config = tiny_config(
        dataset, task="binary", epochs=1, dtype="bfloat16", **{"data.class_weights": "balanced"}
    )
    train(config, tmp_path)
    assert json.loads((tmp_path / "reading.json").read_text())["classes"] == ["Benign", "Malware"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.mask": "header"}, "data.mask is 'header' and the dataset .* mask 'none'"),
        ({"batch_size": 64}, "there are 63 training sessions: set --config.batch_size=32"),
        ({"batch_size": 10, "mesh.data": 4}, "cannot be shared by 4 devices"),
        ({"model.variant": "huge"}, "model.variant 'huge'"),
    ],
)
def test_config_that_does_not_fit_is_refused_before_anything_is_made(
    dataset, tmp_path, overrides, message
):
    with pytest.raises(ConfigError, match=message):
        train(tiny_config(dataset, **{"data.limit": 0, **overrides}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_class_alone_teaches_nothing(tmp_path):
    dataset = make_dataset(tmp_path / "dataset", classes=CLASSES[:1])
    with pytest.raises(ConfigError, match="all training sessions are of class Benign"):
        train(tiny_config(dataset, task="binary"), tmp_path / "run")


def test_permuted_labels_keep_their_number_in_each_split_and_are_the_seeds():
    labels, splits = np.arange(300) % 3, (np.arange(100), np.arange(100, 180))
    permuted = permuted_labels(labels, splits, seed=1)
    assert (permuted[180:] == labels[180:]).all()
    for rows in splits:
        assert (np.bincount(permuted[rows]) == np.bincount(labels[rows])).all()
        assert 0.15 < (permuted[rows] == labels[rows]).mean() < 0.5
    np.testing.assert_array_equal(permuted, permuted_labels(labels, splits, seed=1))
    assert (permuted != permuted_labels(labels, splits, seed=2)).any()


def test_a_config_asks_for_permuted_labels(dataset):
    plain, control = (
        next(iter(prepare(tiny_config(dataset, **{"data.permute_labels": on})).loader))
        for on in (False, True)
    )
    np.testing.assert_array_equal(plain["rows"], control["rows"])
    labels = dataset.labels[plain["rows"]]
    assert (plain["labels"] == labels).all() and (control["labels"] != labels).any()


def test_loop_is_one_readable_function():
    tree = ast.parse(pathlib.Path(loop.__file__).read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if getattr(node, "name", "") == "train")
    assert function.end_lineno - function.lineno < 120


def test_losses_agree_with_the_definition():
    logits, labels = jnp.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]]), jnp.array([0, 2])
    log = np.log(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
    found = cross_entropy(logits, one_hot(labels, 3))
    np.testing.assert_allclose(found, [-log[0, 0], -log[1, 2]], rtol=1e-6)
    smoothed = cross_entropy(logits, smooth(one_hot(labels, 3), 0.3))
    expected = [-(0.8 * log[0, 0] + 0.1 * log[0, 1] + 0.1 * log[0, 2]), -log[1, 2]]
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6)
    assert weighted_mean(jnp.array([1.0, 3.0]), jnp.array([1.0, 2.0])) == 3.5


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0] * 6 + [1] * 3 + [3], np.int32)
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    np.testing.assert_allclose(balanced_weights(labels, 4)[[0, 1, 3]], expected, rtol=1e-6)
    assert balanced_weights(labels, 4)[2] == 0


def test_scores_agree_with_scikit_learn_and_padding_does_not_count():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 4, 50), rng.normal(size=(50, 5)).astype(np.float32)
    weights = (np.arange(50) < 40).astype(np.float32)
    losses = np.where(weights > 0, 2.0, np.nan).astype(np.float32)
    found = scores_of(jax.device_get(add_batch(empty_sums(5), logits, losses, labels, weights)))
    judged, true = logits[:40].argmax(1), labels[:40]
    assert found["accuracy"] == pytest.approx((judged == true).mean())
    assert found["macro_f1"] == pytest.approx(f1_score(true, judged, average="macro"))
    assert found["loss"] == 2.0


def test_schedule_warms_up_and_comes_down():
    optimizer = load_config("vit").optimizer
    optimizer.learning_rate, optimizer.warmup_epochs = 0.1, 2.0
    schedule = make_schedule(optimizer, 10, 5)
    rates = [float(schedule(step)) for step in range(51)]
    assert rates[0] == 0 and max(rates) == pytest.approx(0.1) == rates[10]
    assert rates[50] == pytest.approx(0, abs=1e-9)
    optimizer.schedule, optimizer.warmup_epochs = "constant", 0.0
    assert float(make_schedule(optimizer, 10, 5)(49)) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_spares_biases(name):
    optimizer = load_config("vit").optimizer
    optimizer.name, optimizer.weight_decay = name, 0.1
    tx = make_optimizer(optimizer, lambda step: 1.0)
    params = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_allclose(updates["dense"]["kernel"], -0.1, rtol=1e-6)
    np.testing.assert_array_equal(updates["dense"]["bias"], 0)


def test_average_forgets_the_start():
    average = {"a": jnp.zeros(())}
    for step in range(100):
        average = move_average(average, {"a": jnp.ones(())}, 0.999, jnp.asarray(step))
    assert float(average["a"]) > 0.99


def test_stopping_waits_for_a_new_best():
    stopping = Stopping("accuracy", 2)
    for epoch, accuracy in enumerate((0.5, 0.9, 0.9, 0.8), 1):
        assert not stopping.due
        scores = {"accuracy": accuracy, "loss": 1.0, "macro_f1": 0.0}
        stopping = stopping.after(epoch * 10, epoch, scores)
    assert stopping.due and (stopping.best_step, stopping.best_epoch) == (20, 2)
    stopping = Stopping("loss", 0).after(1, 1, {"loss": 2.0}).after(2, 2, {"loss": 1.0})
    assert stopping.best_step == 2 and not stopping.due
    # A loss that is not a number is never the best, wherever it comes.
    for losses in ((1.0, math.nan, 2.0), (math.nan, 1.0, math.nan)):
        stopping = Stopping("loss", 0)
        for epoch, loss in enumerate(losses, 1):
            stopping = stopping.after(epoch, epoch, {"loss": loss})
        assert stopping.best == {"loss": 1.0}


def tiles_of(counts):
    rng = np.random.default_rng(0)
    tiles = np.zeros((len(counts), 64, 256), np.uint8)
    for session, count in enumerate(counts):
        tiles[session, :count, :100] = rng.integers(1, 256, (count, 100))
    return jnp.asarray(tiles)


def filled(tiles):
    return np.asarray(tiles != 0).any(-1)


def test_tail_dropout_keeps_a_prefix():
    tiles = tiles_of([10] * 200)
    found = tail_dropout(RNG, tiles, 0.5)
    lengths = filled(found).sum(1)
    assert set(lengths) == set(range(1, 11))
    assert 80 < (lengths == 10).sum() < 150
    kept = filled(found)
    np.testing.assert_array_equal(np.asarray(found)[kept], np.asarray(tiles)[kept])
    assert (np.sort(kept, axis=1)[:, ::-1] == kept).all()


def test_packet_dropout_never_empties_a_session():
    found = filled(packet_dropout(RNG, tiles_of([1, 2, 64] * 100), 0.9))
    assert found.any(1).all()
    assert 0.05 < found[2::3].mean() < 0.15


def test_byte_dropout_zeroes_its_share():
    tiles = tiles_of([64] * 4)
    found = byte_dropout(RNG, tiles, 0.25)
    assert found.dtype == jnp.uint8
    assert float((found != 0).sum() / (tiles != 0).sum()) == pytest.approx(0.75, abs=0.02)


def test_header_and_payload_dropout_keep_to_their_parts():
    tiles = jnp.full((64, 4, 256), 7, jnp.uint8)
    header = np.asarray(header_dropout(RNG, tiles, 0.25, 70) == 0)
    assert not header[..., 70:].any() and header[..., :70].mean() == pytest.approx(0.25, abs=0.02)
    payload = np.asarray(payload_dropout(RNG, tiles, 0.8, 70) == 0)
    assert not payload[..., :70].any()
    rates = payload[..., 70:].mean((1, 2))  # a rate a session, uniform up to 0.8
    assert rates.max() < 0.85 and rates.min() < 0.2 and rates.std() > 0.15
    assert rates.mean() == pytest.approx(0.4, abs=0.1)


def test_byte_swap_leaves_empty_tiles_and_half_of_the_sessions():
    tiles = tiles_of([3] * 100)
    found = np.asarray(byte_swap(RNG, tiles, 0.5))
    assert not found[:, 3:].any()
    changed = (found != np.asarray(tiles)).any((1, 2))
    assert 35 < changed.sum() < 65


def test_mixup_mixes_targets_as_images():
    images, targets = jnp.eye(4)[:, :, None, None], jnp.eye(4)
    mixed, shares = mixup(RNG, images, targets, 0.4)
    np.testing.assert_allclose(mixed[:, :, 0, 0], shares)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)


def test_no_rate_changes_nothing():
    tiles = tiles_of([5] * 4)
    rates = load_config("xception").augment
    np.testing.assert_array_equal(augment(RNG, tiles, {key: 0.0 for key in rates}), tiles)
