"""Make a folder whole or not at all."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

from xai_traffic.errors import XaiTrafficError


@contextlib.contextmanager
def whole_folder(
    out: str | os.PathLike[str],
    check_free: Callable[[], None],
    error_class: type[XaiTrafficError] = XaiTrafficError,
) -> Iterator[pathlib.Path]:
    """Give a temporary folder beside `out` to write into; it becomes `out` when all went well.

    What stood at `out` goes when the new folder takes its place; nothing is left of the temporary
    one after an error, a full disk or an interruption. Its parent is for the caller's own
    temporary files.

    Args:
        out: the folder to make, with its parents.
        check_free: raises when `out` is in the way; called at once, and again before the exchange.
        error_class: raised when nothing can be made there, or the disk is full: what a system says
            of that names no file.
    """
    out = pathlib.Path(os.path.abspath(out))
    check_free()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise error_class(f"{out} cannot be made: {error}") from error
    try:
        made = temporary / "new"
        made.mkdir()
        yield made
        check_free()
        if out.exists():
            out.rename(temporary / "old")
        made.rename(out)
    except OSError as error:
        if error.filename is not None or isinstance(error, BrokenPipeError):
            raise
        raise error_class(f"{out} could not be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
