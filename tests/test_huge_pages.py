"""Large pages are asked for where the system leaves that to programs, never against a choice."""

import os
import platform
import subprocess
import sys

import pytest

from xai_traffic.huge_pages import TUNABLE, VARIABLE, with_huge_pages

ASKED = f"{TUNABLE}=1"
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")


@pytest.mark.parametrize(
    ("policy", "before", "after"),
    [
        ("always [madvise] never", None, ASKED),
        ("always [madvise] never", "glibc.malloc.check=0", f"glibc.malloc.check=0:{ASKED}"),
        ("always [madvise] never", f"{TUNABLE}=0", None),
        ("[always] madvise never", None, None),
        ("always madvise [never]", None, None),
        (None, None, None),
    ],
)
def test_asks_only_where_it_is_left_to_programs(tmp_path, policy, before, after):
    path = tmp_path / "enabled"
    if policy:
        path.write_text(policy)
    environment = {"HOME": "/"} | ({VARIABLE: before} if before else {})
    found = with_huge_pages(environment, path)
    assert found == (None if after is None else {"HOME": "/", VARIABLE: after})


def test_the_command_starts_itself_again_with_its_arguments():
    program = (
        "import sys, os; from xai_traffic.huge_pages import restart_with_huge_pages as restart; "
        f"restart(); print(os.getpid(), sys.argv[1:], os.environ.get({VARIABLE!r}))"
    )
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-c", program, "a b", "c"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    printed = process.communicate(timeout=60)[0]
    wanted = with_huge_pages(environment)
    shown = wanted[VARIABLE] if wanted else None
    assert printed == f"{process.pid} ['a b', 'c'] {shown}\n"
