"""Say what the figures of a benchmark depend on: the machine and the versions."""

from __future__ import annotations

import contextlib
import os
import pathlib
import platform
import time
from importlib import metadata

from xai_traffic import __version__


def machine() -> dict:
    """Return the date, the processor, the cores at hand, the memory in bytes and the system."""
    processor = "unknown processor"
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
    }


def own_versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, of this project and of packages beside it."""
    versions = {"python": platform.python_version(), "xai-traffic": __version__}
    return versions | {name: metadata.version(name) for name in packages}
