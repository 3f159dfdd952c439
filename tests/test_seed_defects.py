"""The eight defects of the seed study's code, each held against ours."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from capture_bytes import ethernet, ipv4, ipv6, pcap, tcp, udp
from explained_run import make_run, write_capture
from small_dataset import make_dataset, tiny_config

from xai_traffic import explain
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import read_capture
from xai_traffic.data.build import convert, summarise
from xai_traffic.data.store import open_dataset
from xai_traffic.errors import ConfigError
from xai_traffic.models import build
from xai_traffic.training import loop
from xai_traffic.training.job import prepare
from xai_traffic.training.run import load_run
from xai_traffic.training.stopping import Stopping


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("defects") / "run")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = write_capture(tmp_path_factory.mktemp("defects") / "a.pcap", sessions=3)
    return read_capture(path).images()


def test_1_integrated_gradients_explain_the_very_input_of_the_training(run, images):
    # The seed fed inputs rescaled to [-1, 1]: no sum of attributions could meet the logit's rise.
    x = images[..., None].astype(np.float32)
    starts = np.asarray(explain.empty_packets(x))
    values, error = explain.integrated_gradients(
        run.model.apply, run.variables, x, baselines=starts, steps=300
    )
    high, low = run.logits(images), run.logits(starts[:, 0])
    best = high.argmax(1)
    rise = (high - low)[np.arange(len(x)), best]
    np.testing.assert_allclose(np.asarray(values).sum((1, 2)), rise, atol=1e-2)
    assert float(error.max()) < 1e-2
    np.testing.assert_allclose(run.explain(images, steps=300), values, atol=1e-4)
    rescaled = run.explain(x / 127.5 - 1, target=best.astype(np.int32))
    assert np.abs(rescaled.sum((1, 2)) - rise).max() > 0.1 * np.abs(rise).max()


def test_2_benign_verdicts_are_explained_as_benign(tmp_path, images):
    # The seed's one sigmoid unit has one argmax: everything was explained as malware.
    dataset = make_dataset(tmp_path / "data")
    job = prepare(tiny_config(dataset, task="binary"))
    assert job.classes == ["Benign", "Malware"]
    logits = jax.eval_shape(job.model.apply, job.like.variables, images[..., None])[0]
    assert logits.shape == (len(images), 2)
    for family in ("xception", "vgg19", "vit"):
        with pytest.raises(ConfigError, match="at least two classes"):
            build(family, 1, variant="debug")
    with pytest.raises(ValueError, match="one logit"):
        explain.gradient(lambda params, x: x.sum((1, 2)), None, images[..., None])

    binary = make_run(tmp_path / "run", classes=job.classes)
    rise = np.diff(binary.logits(images))[:, 0]
    # So that both verdicts are given.
    binary.variables["params"]["head"]["bias"] -= np.float32([0, (rise.min() + rise.max()) / 2])
    verdicts = binary.logits(images).argmax(1)
    assert set(verdicts) == {0, 1}
    told = binary.explain(images, "gradient_x_input")
    benign, malware = (binary.explain(images, "gradient_x_input", target=k) for k in (0, 1))
    for row, verdict in enumerate(verdicts):
        right, wrong = (benign, malware)[verdict][row], (malware, benign)[verdict][row]
        np.testing.assert_allclose(told[row], right, rtol=1e-3, atol=1e-5)
        assert np.abs(told[row] - wrong).max() > 1e-3


def test_3_attention_is_read_where_packets_are_and_depends_on_them(run, images):
    # The seed resized to 146 and cropped to 128 first, and showed one hand-picked head.
    x = jnp.asarray(images[..., None], jnp.float32)
    extent = run.model.extent  # this model reads the first 16 packets
    heads = np.asarray(explain.attention(run.model.apply, run.variables, x, extent=extent))
    activations = run.model.apply(run.variables, x)[1]
    names = sorted(name for name in activations if name.startswith("attention_"))
    assert heads.shape[1:] == (len(names), activations[names[0]].shape[1], 2, 8)
    # A token is a packet: this model leaves empty tiles out, and exactly those stay dark.
    empty = images.reshape(len(images), 8, 16, 8, 16)[:, :2].max((2, 4)) == 0
    assert [int(part.sum()) for part in empty] == [12, 12, 15]
    for session, part in enumerate(empty):
        assert heads[session][:, :, part].max() < 1e-6 < heads[session][:, :, ~part].min()
    # The published maps of two sessions correlated at 0.987: they showed the position.
    one, other = heads[0].ravel(), heads[2].ravel()
    assert np.corrcoef(one, other)[0, 1] < 0.9


def test_4_the_model_has_the_classes_of_the_data_and_is_trained(tmp_path, monkeypatch):
    # The seed's committed ViT kept 2 outputs and never called fit.
    dataset = make_dataset(tmp_path / "data", sessions=60, classes=["A", "B", "C"])
    # 5. and stopped early on the training loss, by one batch of validation.
    judged = []
    real = loop.validate

    def scripted(job, state, asked_to_stop):
        scores, confusion = real(job, state, asked_to_stop)
        judged.append(int(np.asarray(confusion).sum()))
        # Training goes on to fall; on validation the first epoch is the best.
        return {**scores, "accuracy": 1.0 - 0.1 * len(judged)}, confusion

    monkeypatch.setattr(loop, "validate", scripted)
    stopping = {"early_stopping.metric": "accuracy", "early_stopping.patience": 2}
    config = tiny_config(dataset, epochs=9, batch_size=8, **stopping)
    result = loop.train(config, tmp_path / "run")
    trained = load_run(tmp_path / "run")
    assert trained.classes == ["A", "B", "C"]
    assert trained.logits(np.zeros((1, 128, 128), np.uint8)).shape == (1, 3)
    fresh = trained.model.init(jax.random.key(int(config.seed)))
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), trained.variables, fresh)
    assert max(jax.tree.leaves(moved)) > 0
    # 5: the whole validation split, every epoch; the best and the end are its decision alone.
    whole = len(dataset.rows("validation"))
    assert whole > config.batch_size and set(judged) == {whole}
    assert len(judged) == 3
    assert result["best"]["accuracy"] == pytest.approx(0.9) and result["best_epoch"] == 1
    assert trained.step == result["best_step"] == result["step"] // 3


def test_5_the_best_epoch_is_that_of_the_whole_validation_split():
    stopping = Stopping("accuracy", 2)
    for epoch, accuracy in enumerate((0.8, 0.9, 0.7, 0.6), 1):
        # A training loss that goes on falling is no reason to go on.
        stopping = stopping.after(10 * epoch, epoch, {"accuracy": accuracy, "loss": 1 / epoch})
    assert stopping.due and (stopping.best_epoch, stopping.best_step) == (2, 20)


def flow(number, *, payload=b"hello", family=ipv4, packets=3):
    ends = (
        {"source": f"10.0.0.{number}", "destination": "10.1.0.1"}
        if family is ipv4
        else {"source": f"fd00::{number}", "destination": "fd00::ffff"}
    )
    kind = 0x0800 if family is ipv4 else 0x86DD
    return [
        ethernet(family(tcp(4000, 80, flags=0x18, sequence=i, data=payload), **ends), kind=kind)
        for i in range(packets)
    ]


def write(path, *flows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pcap([record for records in flows for record in records]))


@pytest.fixture
def converted(tmp_path):
    """Captures in the seed's folders, converted with addresses masked."""
    folder = tmp_path / "captures"
    write(folder / "Benign" / "Weibo-1.pcap", flow(1, payload=b"weibo"), flow(2, payload=b"weibo"))
    write(folder / "Malware" / "Zeus.pcap", flow(3, payload=b"zeus"), flow(4, payload=b"more"))
    write(folder / "Benign" / "Facetime.pcap", flow(5, payload=b"call", packets=1))
    made = convert(
        [folder], tmp_path / "data", rules=ReadingRules(mask="addresses"), split="random:100/0/0"
    )
    return made, open_dataset(tmp_path / "data")


def test_6_duplicates_are_removed_before_the_split_and_counted(converted):
    # Two equal sessions but for their addresses, which the mask hides: one image.
    made, dataset = converted
    hashes = dataset.table["content_hash"].to_pylist()
    assert len(set(hashes)) == len(hashes)
    assert dataset.table["label"].to_pylist().count("Weibo-1") == 1
    kept = {label: entry["duplicates"] for label, entry in made.manifest["per_class"].items()}
    assert kept == {"Weibo-1": 1, "Zeus": 0, "Facetime": 0}


def test_6_sessions_of_one_pair_of_endpoints_never_straddle_the_split(tmp_path):
    # What two hosts say to each other again and again is nearly the same.
    flows = []
    for host in range(1, 9):
        ends = {"source": f"10.0.0.{host}", "destination": "10.1.0.1"}
        for again in range(3):
            first, said = 1000 * again, f"{host} says {again}".encode()
            for segment in (tcp(flags=2, sequence=first), tcp(sequence=first + 1, data=said)):
                flows.append([ethernet(ipv4(segment, **ends))])
    write(tmp_path / "captures" / "Benign" / "Chat.pcap", *flows)
    convert(
        [tmp_path / "captures"], tmp_path / "data", rules=ReadingRules(), split="random:50/0/50"
    )
    table = open_dataset(tmp_path / "data").table.to_pylist()
    assert len(table) == 24
    found = {(row["source"], row["split"]) for row in table}
    assert len(found) == 8 and {split for _, split in found} == {"train", "test"}


def test_7_weibo_is_benign_and_the_tasks_are_not_swapped(converted):
    _, dataset = converted
    table = dataset.table.to_pylist()
    binary = {row["label"]: row["binary_label"] for row in table}
    assert binary == {"Weibo-1": "Benign", "Zeus": "Malware", "Facetime": "Benign"}
    assert dataset.task_classes("binary") == ["Benign", "Malware"]
    assert dataset.task_classes("multiclass") == ["Facetime", "Weibo-1", "Zeus"]
    labels = dataset.task_labels("binary")
    assert [dataset.task_classes("binary")[i] for i in labels] == [
        row["binary_label"] for row in table
    ]


def test_7_ipv6_passes_the_default_filter(tmp_path):
    write(tmp_path / "six.pcap", flow(1, family=ipv6))
    sessions = read_capture(tmp_path / "six.pcap")
    assert sessions.table["source"].to_pylist() == ["fd00::1"] and not sessions.dropped


def test_8_no_session_vanishes_without_a_word(tmp_path, converted):
    assert ReadingRules().min_packets == 1
    _, dataset = converted
    assert "Facetime" in dataset.classes
    folder = tmp_path / "few"
    write(folder / "Benign" / "Facetime.pcap", flow(5, packets=1))
    write(folder / "Malware" / "Zeus.pcap", flow(3))
    made = convert([folder], tmp_path / "three", rules=ReadingRules(min_packets=3))
    told = json.dumps(made.manifest)
    assert "below minimum packets" in told
    words = " ".join(str(part) for part in summarise(made.manifest))
    assert "Facetime" in words and "below minimum packets" in words
    one = tmp_path / "one.pcap"
    one.write_bytes(pcap([ethernet(ipv4(udp(data=b"call"), protocol=17))]))
    assert read_capture(one, min_packets=2).dropped == {"below minimum packets": 1}
