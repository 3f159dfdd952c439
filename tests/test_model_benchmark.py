"""The benchmarks of training and inference: what they count and tell, and that they run."""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from xai_traffic.models import build

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def part(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def run_script(name, *arguments):
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    command = [sys.executable, FOLDER / name, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_training_runs_and_writes_its_tables(tmp_path):
    command = ["training.py", "--quick", "--models", "vit-debug", "--out", tmp_path]
    printed = run_script(*command, "--cases", "models,pipeline").stdout
    records = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    about = records[0]
    assert about["case"] == "about" and about["platform"] == "cpu"
    assert about["versions"]["numpy"] == np.__version__
    by_case = {record["case"]: record for record in records}
    ours = by_case["vit-debug float32 batch 1"]
    assert ours["images"] == 1 and ours["per_second"] > 0 and ours["first_step"] > 0
    assert ours["parameters"] == by_case["flops"]["parameters"]
    fed = by_case["pipeline"]
    assert fed["batches"] >= 4 and 0 < fed["inside"] < fed["seconds"] and fed["alone"] > 0
    table = (tmp_path / "training.txt").read_text()
    assert table in printed + "\n" and "| vit debug | 1 |" in table
    assert "No accelerator was at hand" in table and "the step waits for data" in table
    assert run_script("training.py", "--markdown", "--out", tmp_path).stdout == table


@pytest.mark.slow
def test_classify_is_timed_by_stages(tmp_path):
    run_script("classify_stages.py", "make", tmp_path, 500, 0)
    capture, run = tmp_path / "capture.pcap", tmp_path / "run"
    made, whole = (
        json.loads(run_script("classify_stages.py", way, run, capture).stdout)
        for way in ("stages", "command")
    )
    assert made["packets"] == whole["packets"] == 500
    assert made["sessions"] == whole["sessions"] > 10
    assert sum(made["stages"].values()) == pytest.approx(made["seconds"])
    assert min(made["stages"].values()) >= 0 and made["stages"]["model"] > 0
    assert whole["seconds"] > made["seconds"] and whole["peak"] > 1e8


def test_operations_by_hand_are_those_that_xla_counts(part):
    flops = part("model_flops")
    # XLA also counts elementwise work, of which narrow models have relatively more.
    cases = [("xception", "seed", 1.02), ("vgg19", "seed", 1.02), ("vit", "s", 1.05)]
    cases += [(family, "debug", 1.1) for family in ("xception", "vgg19", "vit")]
    for family, variant, most in cases:
        model = build(family, 19, variant=variant)
        hand = flops.count_by_hand(model)
        assert hand.needed <= hand.whole < 1.3 * hand.needed
        assert 1 <= flops.count_by_xla(model) / hand.needed < most, (family, variant)
        if variant == "debug":
            assert 2 < flops.count_by_xla(model, training=True) / hand.needed < 3.4


def test_operations_are_those_of_the_papers(part):
    flops = part("model_flops")
    # ViT-Ti: 12 blocks of (4 projections, MLP of factor 4, attention) on 65 tokens.
    block = 65 * (4 * 192 * 192 + 8 * 192 * 192) + 2 * 65 * 65 * 192
    wanted = 2 * (12 * block + 64 * 256 * 192 + 192 * 19)
    assert flops.count_by_hand(build("vit", 19, variant="ti")).whole == wanted
    with pytest.raises(ValueError, match="cells is not counted"):
        flops.count_by_hand(build("xception", 19, variant="small"))


def test_plans_suit_the_platform(part):
    cases = part("model_cases")
    every = cases.plan("training", "gpu")
    assert {case.batch for case in every} == {1, 16, 64, 256}
    assert {case.dtype for case in every} == {"float32", "bfloat16"}
    assert len(every) == len(cases.MODELS) * 8 + len(cases.FUSED) * 4
    on_cpu = cases.plan("inference", "cpu")
    assert [case for case in on_cpu if case.dtype == "bfloat16"] == [("vit-ti", "bfloat16", 16)]
    assert {case.batch for case in on_cpu} == {1, 16, 64}
    assert {case.batch for case in cases.plan("training", "gpu", quick=True)} == {1}
    chosen = cases.plan("training", "cpu", models=["vgg19"], dtypes=["bfloat16"], batches=[2])
    assert chosen == [("vgg19", "bfloat16", 2)]


def test_peers_that_are_absent_are_named_with_a_reason(part, tmp_path):
    bench = part("model_bench")
    cases, report = part("model_cases"), part("model_report")
    options = {"quick": False, "seconds": 1.0, "seed": 0}
    device = {"platform": "cpu"}

    def runs_of(peers, model):
        given = bench.argparse.Namespace(**options, peers=peers)
        made = bench.Bench("training", given, tmp_path, device)
        return {run.name: run.absent for run in made.case(cases.Case(model, "float32", 1))}

    assert set(runs_of(None, "vgg19")) == {report.OURS, *report.PEERS.values()}
    assert runs_of(None, "vgg19")["PyTorch"] == "no --peers DIR was given"
    assert runs_of(None, "vgg19")[report.OURS] == ""
    assert runs_of(tmp_path / "peers", "vgg19")["Keras on JAX"] == "not installed in peers"
    assert runs_of(None, "vit-debug")["PyTorch"] == "no such model"
    record = {"case": "c", "what": "training", "model": "vgg19", "dtype": "float32", "batch": 1}
    record |= {"name": "PyTorch", "round": 0, "unit": "images", "absent": "not installed there"}
    lines = report.tables([made_about(), made_run("xai-traffic", 0, 2.0), record]).splitlines()
    assert "PyTorch: absent, not installed there" in lines


def made_about():
    about = {"case": "about", "what": "training", "date": "today", "cores": 2, "processor": "one"}
    about |= {"memory": 2**30, "system": "here", "platform": "gpu", "device": "a card"}
    return about | {"load": 0.1, "versions": {"numpy": "2"}, "seed": 0}


def made_run(name, number, per_second, **rest):
    return {
        "case": "c",
        "what": "training",
        "model": "vgg19",
        "dtype": "float32",
        "batch": 1,
        "name": name,
        "round": number,
        "unit": "images",
        "images": 1,
        "seconds": 1 / per_second,
        "per_second": per_second,
        "first_step": 1.5,
        "peak": 1_000_000,
        **rest,
    }


def test_tables_tell_ratios_within_rounds_and_shares_of_the_rate(part):
    report = part("model_report")
    records = [
        made_about(),
        {"case": "check", "name": "pool", "ok": True, "difference": 0.0},
        {**made_run("product float32", 0, 1e12), "case": "ceilings", "what": None},
        {**made_run("memory", 0, 2e9), "case": "ceilings", "what": None},
        {"case": "flops", "model": "vgg19", "parameters": 70_000_000, "flops": 1e10}
        | {"flops_without_padding": 9e9, "flops_by_xla": 9.1e9, "training_flops_by_xla": 27e9},
        *(made_run("xai-traffic", number, speed) for number, speed in enumerate([10.0, 4.0, 1.0])),
        *(made_run("PyTorch", number, speed) for number, speed in enumerate([2.0, 2.0, 0.25])),
        *(
            {"case": "pipeline", "name": "together", "round": number, "unit": "batches"}
            | {"model": "vit-ti", "dtype": "float32", "batch": 16, "batches": 10, "per_second": 1.0}
            | {"seconds": 10.0, "inside": 0.5, "alone": alone}
            for number, alone in enumerate([9.9, 10.1, 9.5])
        ),
    ]
    row = report.summary(records, "c")["PyTorch"]
    assert (row["ratio"], row["ratios"], row["per_second"]) == (4, (2, 5), 2)
    assert report.rates(records) == {"float32": 1e12, "memory": 2e9}
    lines = report.tables(records).splitlines()
    # 4 images a second, 10 GFLOP forward each, three times that in training, of 1 TFLOP/s.
    assert "| VGG-19 | 1 | 4 | 250 | 12% | 1.5 s | 1 MB | 2 (4 x, 2 - 5) |" in lines
    assert report.waiting(records) == pytest.approx([0.01, 0, 0.05])
    assert any(line.startswith("the step waits for data 1.00% of the time") for line in lines)
    assert "**checks** before the measuring: all 1 ok" in lines
    assert not any("No accelerator" in line for line in lines)


def test_steps_are_timed_behind_the_first(part):
    timing = part("step_timing")
    done = []
    timed = timing.time_steps(lambda: done.append(0), lambda last: None, 0.0)
    assert timed["steps"] == 1 and len(done) == 2 and timed["seconds"] > 0
    timed = timing.time_steps(lambda: timing.time.sleep(0.01), lambda last: None, 0.05)
    assert 2 <= timed["steps"] <= 5 and timed["seconds"] >= 0.02
    assert timing.lacks_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory"))
    assert not timing.lacks_memory(ValueError("wrong shape"))
    assert timing.peak_of_process() > 1e6


def test_checks_compare_values_and_gradients(part):
    checks = part("model_checks")

    def right(x):
        return x * x

    def wrong(x):
        return x * x + 0.01 * x

    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    assert checks.check_formulations("same", right, right, x)["ok"]
    assert not checks.check_formulations("other", right, wrong, x)["ok"]
    assert checks.check_logits("vit-debug") is None  # the device is the CPU itself


def test_the_largest_batch_is_the_last_that_fits(part, monkeypatch):
    runs = part("model_runs")
    tried = []

    def run(what, name, dtype, batch_size, seconds, seed):
        tried.append(batch_size)
        return {"absent": "out of memory"} if batch_size > 2000 else {"images": batch_size}

    monkeypatch.setattr(runs, "run", run)
    monkeypatch.setattr(runs.jax, "clear_caches", lambda: None)  # other tests' programs stay
    assert runs.largest("training", "vgg19", "float32", 512, 0) == {"largest": 1024}
    assert tried == [512, 1024, 2048]


def test_a_full_memory_is_no_failure(part, monkeypatch):
    runs = part("model_runs")

    def full(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory while trying to allocate")

    monkeypatch.setitem(runs.CASES, "inference", full)
    told = runs.run("inference", "vit-debug", "float32", 8, 0.0, 0)
    assert told == {"absent": "out of memory at batch 8"}


def test_packed_sessions_are_told_beside_the_dense_grid(part):
    about = {"case": "about", "what": "training", "platform": "cpu", "device": "cpu"}
    about |= {"date": "2026-11-28", "cores": 2, "processor": "P", "memory": 2**34, "system": "L"}
    about |= {"load": 0.1, "versions": {"jax": "0.10"}, "seed": 0}
    facts = {"model": "vit-ti", "dtype": "float32", "batch": 16, "mean": 3.5, "seconds": 1.0}
    rates = {"dense": (10.0, 20.0), "packed": (80.0, 80.0)}
    records = [
        {"case": "packed", "name": f"vit-ti, 3.5 packets, {way}", "round": number, **facts}
        | {"per_second": rate}
        for way, both in rates.items()
        for number, rate in enumerate(both)
    ]
    table = part("model_report").tables([about, *records])
    assert "| ViT-Ti, float32 | 16 | 3.5 | 15 | 80 | 6 x (4 - 8) |" in table


def test_formulations_are_told_side_by_side(part):
    record = {"case": "formulations", "name": "formulations", "dtype": "float32", "batch": 16}
    rounds = [
        {**record, "round": number, "formulations": {"depthwise": {"grouped": 8.0, "shifted": ms}}}
        for number, ms in enumerate((1.0, 2.0, 9.0))
    ]
    lines = part("model_report")._formulations(rounds)
    assert "| depthwise | grouped 8 | shifted 2 |" in lines


def test_a_profile_gives_each_operation_its_own_time(part):
    profile = part("model_profile")

    def event(name, begin, duration, thread=1):
        where = {"ph": "X", "pid": 0, "tid": thread, "args": {"hlo_op": name}}
        return {**where, "name": name, "ts": begin, "dur": duration}

    spent = profile.own_times(
        [
            event("while.1", 0.0, 100.0),
            event("dot.2", 10.0, 30.0),
            event("dot.2", 50.0, 20.0),
            event("fusion.3", 100.0, 5.0),
            event("fusion.3", 0.0, 7.0, thread=2),
            {"ph": "X", "pid": 0, "tid": 1, "ts": 0, "dur": 9, "name": "python"},
        ]
    )
    assert spent == {"while.1": 50.0, "dot.2": 50.0, "fusion.3": 12.0}
    text = '%dot.2 = f32[2]{0} dot(%a, %b), metadata={op_name="jit(f)/jvp(Net)/mlp_0/dot_general"}'
    assert profile.paths_of(text) == {"dot.2": "jit(f)/jvp(Net)/mlp_0/dot_general"}
    kinds = {
        "jit(f)/jvp(Xception)/block5_sepconv1/mul": "depthwise convolution",
        "jit(f)/jvp(Xception)/block5_sepconv1/dot_general": "pointwise product",
        "jit(f)/transpose(jvp(Xception))/block5_sepconv1_bn/mul": "normalisation",
        "jit(f)/jvp(ViT)/encoderblock_0/attention/exp": "attention",
        "jit(f)/jvp(ViT)/encoderblock_0/attention/query/dot_general": "dense layer",
        "jit(f)/jvp(VGG19)/block1_conv1/conv_general_dilated": "convolution",
    }
    assert {path: profile.kind_of(path) for path in kinds} == kinds
    assert profile.direction_of("jit(f)/transpose(jvp(Net))/mul") == "backward"
