"""The `xai-traffic` command, also `python -m xai_traffic`."""

from __future__ import annotations

import sys

from xai_traffic.cli import main
from xai_traffic.huge_pages import restart_with_huge_pages

JUDGING = (
    "audit",
    "benchmark-explainers",
    "calibrate",
    "classify",
    "demo",
    "evaluate",
    "explain",
    "train",
)
"""Verbs that run a model."""


def command() -> int:
    """Run this process' command line and return the exit status."""
    if sys.argv[1:2] and sys.argv[1] in JUDGING:
        restart_with_huge_pages()
    return main()


if __name__ == "__main__":
    sys.exit(command())
