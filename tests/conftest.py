"""Shared by all tests: eight fake devices, the folder of real captures, a disk to fill."""

import logging
import os
import pathlib
import subprocess

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time goes into compiling programs that run once: without LLVM's expensive
# passes it takes two thirds. =0 tests the very programs that users run, to be done for a release.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# A busy machine is slow, and not wrong.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

CAPTURES = pathlib.Path(os.environ.get("XAI_TRAFFIC_CAPTURES", "../shared/data"))
if not CAPTURES.is_absolute():
    CAPTURES = (pathlib.Path(__file__).parents[1] / CAPTURES).resolve()


@pytest.fixture(autouse=True)
def restored_log():
    """Undo what a command did to the log, which other tests read and whose stream is gone."""
    log = logging.getLogger("xai_traffic")
    handlers, propagate, level = log.handlers[:], log.propagate, log.level
    yield
    log.handlers[:], log.propagate = handlers, propagate
    log.setLevel(level)


@pytest.fixture(scope="session")
def captures() -> pathlib.Path:
    """Folder of real captures (see XAI_TRAFFIC_CAPTURES); the test is skipped without it."""
    if not CAPTURES.is_dir():
        pytest.skip(f"no captures at {CAPTURES}: set XAI_TRAFFIC_CAPTURES")
    return CAPTURES


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of a few MiB; only a privileged user can."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small file system cannot be mounted without privileges")
    yield place
    subprocess.run(["umount", str(place)], check=True)
