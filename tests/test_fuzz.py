"""Fuzzing, in short: the inputs that are kept, and a minute of the fuzzer where clang is found."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import pytest
from both_cores import Result, _core, check_invariants
from fuzz import inputs, oracle

from xai_traffic.capture.records import FAULTS

FUZZ = pathlib.Path(__file__).parent / "fuzz"
KEPT = sorted((FUZZ / "kept").glob("*/*"))
HEADERS = FUZZ.parents[1] / "xai_traffic" / "capture" / "native"
CLANG = shutil.which(os.environ.get("CLANG", "clang"))
SECONDS = 60


def test_both_cores_agree_on_every_kept_input():
    assert KEPT
    faults, rules = set(), set()
    for path in KEPT:
        data = path.read_bytes()
        given = inputs.take_apart(data)
        plain = oracle.by_numpy(data)
        if _core is not None:
            assert oracle.by_c(data, _core.Core) == plain, path.name
        if given.program is None:
            continue
        result = Result(*plain)
        early = given.rules["early"] or given.expire is not None
        check_invariants(result, given.rules["width"], given.rules["limit"], early)
        faults.add(result.fault[0])
        rules.add(given.rules["rule"])
    # They are worth keeping: they meet every session rule, and every fault that small ones can.
    assert rules == set(inputs.SESSION_RULES)
    assert faults >= set(range(len(FAULTS) - 1))


def test_kept_inputs_are_few():
    assert sum(path.stat().st_size for path in KEPT) < 300_000


def test_pieces_make_up_the_capture():
    capture = b"\xd4\xc3\xb2\xa1" + bytes(20) + (bytes(8) + b"\5\0\0\0" + bytes(9)) * 30 + b"rest"
    sizes = {}
    for cuts in range(256):
        data = inputs.OPTIONS.pack(0, 0, 0, 0, 0, cuts, 0, 0, 0) + capture
        given = inputs.take_apart(data)
        assert given.capture == capture and sum(given.cuts) <= len(capture)
        sizes[cuts] = given.cuts
    assert sizes[0] == [] and sizes[1] == [24] + [21] * 30 and set(sizes[2]) == {2}
    assert {size for cuts in range(3, 256, 4) for size in sizes[cuts]} >= set(inputs.CUTS) - {900}


def test_small_limits_know_both_cores(tmp_path):
    program = str(FUZZ / "small_limits.py")
    folders = [str(HEADERS), str(tmp_path / "usual"), str(tmp_path / "small")]
    subprocess.run([sys.executable, program, *folders], check=True)
    assert (tmp_path / "small" / "core.h").is_file()
    # In a process of its own: the limits stay.
    code = "from fuzz import small_limits; small_limits.set_in_python()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=FUZZ.parent)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(CLANG is None, reason="no clang: the fuzzer cannot be built")
def test_a_minute_of_fuzzing_finds_nothing(tmp_path):
    environment = {
        **os.environ,
        "XAI_TRAFFIC_FUZZ": str(tmp_path),
        "XAI_TRAFFIC_CAPTURES": str(tmp_path / "none"),
        "PYTHON": sys.executable,
    }
    done = subprocess.run(
        ["bash", str(FUZZ / "run.sh"), str(SECONDS), "1"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [line.split("\t") for line in (tmp_path / "figures.tsv").read_text().splitlines()]
    targets = {"core", "core_small"}
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):  # else Python cannot be embedded
        targets |= {"both", "both_small"}
    assert {run[2] for run in runs} == targets
    assert all(int(run[4]) > 100 for run in runs), runs
