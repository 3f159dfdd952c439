"""Make files and folders whole or not at all, and never in place of what is not ours."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from xai_traffic.errors import XaiTrafficError


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where a folder of some kind is made, and what may go for it.

    Args:
        out: the folder, with its parents.
        overwrite: replace a folder that stands there, if it holds this kind and nothing else.
        kind: of the folder, with its article, as "an audit".
        foreign: given the folder that stands there, the names in it that are none of this kind's.
        error_class: raised when something is in the way, nothing can be made there, or the disk is
            full.
    """

    out: str | os.PathLike[str]
    overwrite: bool
    kind: str
    foreign: Callable[[pathlib.Path], set[str]]
    error_class: type[XaiTrafficError] = XaiTrafficError

    def check_free(self) -> None:
        """Raise `error_class` where something is in the way that is not to be replaced."""
        out = pathlib.Path(self.out)
        if not os.path.lexists(out):
            return
        if not self.overwrite:
            raise self.error_class(f"{out} exists: choose another --out, or add --overwrite")
        if out.is_symlink() or not out.is_dir():
            raise self.error_class(f"{out} is not a folder: choose another --out")
        if foreign := sorted(self.foreign(out)):
            raise self.error_class(
                f"{out} holds something other than {self.kind} ({', '.join(foreign[:3])}): "
                "it is not overwritten, choose another --out"
            )

    @contextlib.contextmanager
    def whole_folder(self) -> Iterator[pathlib.Path]:
        """Give a temporary folder beside `out` to write into; it becomes `out` when all went well.

        What stood at `out` goes when the new folder takes its place; nothing is left of the
        temporary one after an error, a full disk or an interruption. Its parent is for the caller's
        own temporary files. What is in the way is looked for at once, and before the exchange.
        """
        out = pathlib.Path(os.path.abspath(self.out))
        self.check_free()
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        except OSError as error:
            raise self.error_class(f"{out} cannot be made: {error}") from error
        try:
            made = temporary / "new"
            made.mkdir()
            yield made
            self.check_free()
            if out.exists():
                out.rename(temporary / "old")
            made.rename(out)
        except OSError as error:
            # What a system says of a full disk names no file.
            if error.filename is not None or isinstance(error, BrokenPipeError):
                raise
            raise self.error_class(f"{out} could not be written: {error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def whole_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a name beside `path` to write to: readers see the old file or the whole new one."""
    new = path.with_name(f".{path.name}.new")
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    with whole_file(path) as new:
        new.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
