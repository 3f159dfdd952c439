"""What happens to real processes: killed, told to stop, on a full disk, with a lost peer."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from small_dataset import CACHE, make_dataset, tiny_config

from xai_traffic.training.interruption import Interruption
from xai_traffic.training.loop import train

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from soak.trainings import Training, kill  # noqa: E402


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("interruptions") / "dataset")


@pytest.fixture
def training(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)

    def make(name="run", processes=1, *flags):
        """Return a training whose folder is `name` in the test's own, or a path."""
        flags = (f"--config.compilation_cache={CACHE}", "--config.log.images=0", *flags)
        return Training(dataset.path, tmp_path / name, processes, flags, logs=tmp_path)

    return make


def test_killed_and_told_to_stop_it_ends_with_the_same_bits(training):
    short = "--config.epochs=6"
    expected = training("straight", 1, short).finish()
    killed = training("killed", 1, short)
    (process,) = killed.start()
    killed.wait_for_rows(5, [process])
    kill(process)
    assert process.wait() == -signal.SIGKILL
    (process,) = killed.start()
    killed.wait_for_rows(9, [process])
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # launchers send several
    assert process.wait(30) == 130
    assert time.monotonic() - began < 30
    log = killed.log().read_text()
    assert "the same command goes on from there" in log and "Traceback" not in log
    assert killed.finish()["params_sha256"] == expected["params_sha256"]
    assert killed.went_on_behind() >= 8
    assert killed.rows() == training("straight").rows()


def test_two_processes_lose_one_and_go_on(training):
    pair = training("pair", 2, "--config.epochs=6")
    processes = pair.start()
    pair.wait_for_rows(6, processes)
    pair.wait_for_checkpoint(processes)
    kill(processes[1])
    assert processes[0].wait(90) == 1
    processes[1].wait()
    told = pair.log().read_text().strip().splitlines()[-1]
    assert told.startswith("xai-traffic: process 0: the work that the processes share failed")
    assert "another one ended" in told and "the same command goes on from there" in told
    found = pair.finish()
    assert pair.went_on_behind() >= 3
    assert (
        found["params_sha256"] == training("two", 2, "--config.epochs=6").finish()["params_sha256"]
    )


def test_told_to_stop_two_processes_save_the_same_step(training):
    pair = training("pair", 2, "--config.epochs=80", "--config.checkpoint.every_steps=0")
    processes = pair.start()
    pair.wait_for_rows(4, processes)
    processes[random.randrange(2)].send_signal(signal.SIGTERM)
    assert [process.wait(60) for process in processes] == [130, 130]
    stopped = [pair.log(rank).read_text().split("stopped behind step ")[1][:3] for rank in (0, 1)]
    assert stopped[0] == stopped[1]


def test_stopped_in_validation_it_validates_when_it_goes_on(dataset, tmp_path, monkeypatch):
    expected = train(tiny_config(dataset), tmp_path / "straight")
    from xai_traffic.training import loop

    steps, batches = [], loop.validate

    def interrupted(job, state, asked_to_stop):
        if len(steps) == 3:  # the first epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return batches(job, state, asked_to_stop)

    monkeypatch.setattr(loop, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_config(dataset), tmp_path / "run", on_step=steps.append)
    assert steps == [1, 2, 3]
    monkeypatch.undo()
    found = train(tiny_config(dataset), tmp_path / "run", on_step=steps.append)
    assert steps == [1, 2, 3, 4, 5, 6]
    for key in ("params_sha256", "best", "best_step", "best_params_sha256"):
        assert found[key] == expected[key]
    tables = [(tmp_path / name / "metrics.csv").read_text() for name in ("straight", "run")]
    assert tables[0].count("\n") == tables[1].count("\n")


def test_what_takes_too_long_is_ended_with_a_word():
    """The main thread is in C, as when XLA compiles: no handler of Python runs there."""
    script = (
        "import ctypes\n"
        "from xai_traffic.terminal import configure_logging\n"
        "from xai_traffic.training.interruption import Interruption\n"
        "configure_logging()\n"
        "with Interruption(grace=1.0):\n"
        "    print('ready', flush=True)\n"
        "    ctypes.CDLL(None).pause.argtypes = []\n"
        "    while True:\n"
        "        ctypes.CDLL(None).usleep(100_000_000)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "SIGTERM came 1 s ago" in told


def test_interruption_gives_the_signals_back():
    before = signal.getsignal(signal.SIGTERM)
    with Interruption(grace=5.0) as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1


def test_full_disk_leaves_the_last_checkpoint_whole(training, small_disk):
    expected = training("straight", 1, "--config.epochs=8").finish()
    full = training(small_disk / "run", 1, "--config.epochs=8")
    (process,) = full.start()
    full.wait_for_rows(12, [process])
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert process.wait(60) == 1
    lines = full.log().read_text().splitlines()
    (told,) = [line for line in lines if line.startswith("xai-traffic: ")]
    assert "No space left on device" in told
    assert "is whole, and the same command goes on from there" in told
    # A thread of the checkpoint library may add that its loop is closed already; nothing of ours.
    traced = [line for line in lines if line.startswith("  File ")]
    assert not any("xai_traffic" in line and "site-packages" not in line for line in traced), lines
    filler.unlink()
    assert full.finish()["params_sha256"] == expected["params_sha256"]
    assert full.went_on_behind() >= 3
    assert not list((full.run / "checkpoints").glob("*tmp*"))
