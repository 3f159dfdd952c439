"""A loaded run judges, reads and explains as it was trained."""

import numpy as np
import pytest
from small_dataset import CLASSES, make_dataset, tiny_config

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.errors import ConfigError, RunError
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run
from xai_traffic.training.state import params_sha256


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("run") / "dataset", mask="addresses")


@pytest.fixture(scope="module")
def result(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    return path, train(tiny_config(dataset, **{"early_stopping.metric": "loss"}), path)


@pytest.fixture(scope="module")
def run(result):
    return load_run(result[0])


def test_loads_the_best_parameters(run, result):
    assert run.step == result[1]["best_step"]
    assert params_sha256(run.variables) == result[1]["best_params_sha256"]
    assert run.parameter_count == result[1]["parameters"]
    assert run.classes == CLASSES
    assert run.task == "multiclass"
    assert run.rules == ReadingRules(mask="addresses")


def test_keeps_compiled_programs_where_its_config_says(result, monkeypatch):
    told = []
    monkeypatch.setattr("xai_traffic.training.run.use_compilation_cache", told.append)
    run = load_run(result[0])
    assert told == [run.config.compilation_cache]


def test_judges_any_number_of_images(run, dataset):
    images = dataset.images(np.arange(70))
    probabilities = run.predict(images)
    assert probabilities.shape == (70, 3) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(run.logits(images[3:4]), run.logits(images)[3:4], rtol=1e-4)
    np.testing.assert_array_equal(run.logits(images[..., None]), run.logits(images))
    assert run.predict(images[:0]).shape == (0, 3)
    with pytest.raises(RunError, match=r"\[N, 128, 128\]"):
        run.logits(images[:, :64])


def test_validation_loss_is_that_of_the_loaded_run(run, result, dataset):
    rows = dataset.rows("validation")
    probabilities = run.predict(dataset.images(rows))
    loss = -np.log(probabilities[np.arange(len(rows)), dataset.labels[rows]]).mean()
    assert loss == pytest.approx(result[1]["best"]["loss"], rel=1e-4)


@pytest.mark.parametrize("method", ["gradient_x_input", "grad_cam", "attention", "attn_lrp"])
def test_explains(run, dataset, method):
    found = run.explain(dataset.images([0, 1]), method)
    assert found.shape == (2, 128, 128) and found.dtype == np.float32
    assert np.isfinite(found).all()


def test_unknown_method_is_refused(run, dataset):
    with pytest.raises(RunError, match="'magic' is unknown: choose one of integrated_gradients"):
        run.explain(dataset.images([0]), "magic")


def test_reads_captures_by_its_own_rules(run, captures):
    path = next(path for path in sorted(captures.rglob("*.pcap")) if path.stat().st_size < 100_000)
    sessions = run.read(path)
    assert sessions.rules == run.rules


def test_what_is_no_run_is_told(tmp_path, result):
    with pytest.raises(RunError, match="is no run: it has no config.json"):
        load_run(tmp_path)
    for name in ("config.json", "reading.json"):
        (tmp_path / name).write_bytes((result[0] / name).read_bytes())
    with pytest.raises(RunError, match="no checkpoint yet"):
        load_run(tmp_path)


def test_starts_from_another_run(run, result, dataset, tmp_path):
    config = tiny_config(dataset, init_from=str(result[0]), epochs=1)
    config.optimizer.learning_rate = 1e-9
    config.optimizer.ema = 0.0
    train(config, tmp_path / "run")
    started = load_run(tmp_path / "run").variables["params"]["head"]["kernel"]
    np.testing.assert_allclose(started, run.variables["params"]["head"]["kernel"], atol=1e-5)


def test_another_head_is_refused_by_name(result, tmp_path):
    other = make_dataset(tmp_path / "dataset", classes=["A", "B"], sessions=80)
    with pytest.raises(ConfigError, match=r"params/head/bias \(3,\) there and \(2,\) here"):
        train(tiny_config(other, init_from=str(result[0])), tmp_path / "run")
