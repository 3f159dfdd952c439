"""Packet captures in; explained verdicts on every session out.

Importing this loads nothing heavy: the names below are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "read_capture": "xai_traffic.capture.sessions",
    "open_dataset": "xai_traffic.data.store",
    "load_run": "xai_traffic.training.run",
}
_MODULES = ("explain",)

__all__ = ["__version__", "explain", "load_run", "open_dataset", "read_capture"]  # noqa: F822


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
