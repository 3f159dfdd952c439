"""Memory in large pages for models on a CPU, where the system leaves it to programs to ask.

A step of training goes through gigabytes; in pages of 4 KiB much of its time is the look-up of
addresses. Linux gives pages of 2 MiB to those who ask, glibc asks where a variable says so, and it
reads that variable when a program starts: so the command starts itself again. The rows of the
README's tables are measured with it, for us and for all others alike.
"""

from __future__ import annotations

import os
import pathlib
import platform
import sys
from collections.abc import Mapping

VARIABLE, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
"""See "Memory Allocation Tunables" in the manual of glibc, 2.35 or later."""

POLICY = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def with_huge_pages(
    environment: Mapping[str, str], policy: pathlib.Path = POLICY
) -> dict[str, str] | None:
    """Return the environment in which malloc asks for large pages.

    Returns:
        None where there is nothing to do: no Linux with glibc, a system that gives them unasked or
        never, or a choice that was made by hand.
    """
    if platform.libc_ver()[0] != "glibc" or TUNABLE in environment.get(VARIABLE, ""):
        return None
    try:
        if "[madvise]" not in policy.read_text("ascii"):
            return None
    except OSError:
        return None
    others = environment.get(VARIABLE)
    chosen = f"{TUNABLE}=1"
    return {**environment, VARIABLE: f"{others}:{chosen}" if others else chosen}


def restart_with_huge_pages() -> None:
    """Start this same command line again in that environment; return where there is no need."""
    environment = with_huge_pages(os.environ)
    if environment and sys.executable:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
