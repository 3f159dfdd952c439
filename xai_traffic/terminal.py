"""What the commands show on a terminal: progress, tables, and hostile text made harmless."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

T = TypeVar("T")
log = logging.getLogger("xai_traffic")


def printable(text: object) -> str:
    """Return text with every control, format and surrogate character escaped.

    Host names, file names and paths come out of captures and may carry terminal escape sequences
    or characters that reverse the reading direction.
    """
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in str(text)
    )


def configure_logging() -> None:
    """Send the package's log lines to standard error, one plain line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def progress(
    items: Iterable[T], description: str, total: int | None = None, seconds: float = 10.0
) -> Iterator[T]:
    """Yield the items, showing a bar on a terminal and a log line every `seconds` elsewhere."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            yield from bar.track(items, total=total, description=printable(description))
        return
    told = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        if time.monotonic() - told >= seconds:
            told = time.monotonic()
            log.info("%s: %d of %s", printable(description), count, total or "?")


@contextlib.contextmanager
def byte_progress(
    total: int, description: str, seconds: float = 10.0
) -> Iterator[Callable[[int], None]]:
    """Give a function to tell how many bytes are done; show it as `progress` does.

    Args:
        total: bytes there are to do, 0 if unknown.
        description: what is done.
        seconds: between log lines.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(printable(description), total=total or None)
            yield lambda done: bar.update(task, completed=done)
        return
    told = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told
        if time.monotonic() - told >= seconds:
            told = time.monotonic()
            of = f"{total / 1e6:,.0f}" if total else "?"
            log.info("%s: %s of %s MB", printable(description), f"{done / 1e6:,.0f}", of)

    yield tell


def show_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, stream=None
) -> None:
    """Print a table, numbers to the right; on standard error unless `stream` says otherwise."""
    rows = [list(row) for row in rows]
    table = Table(title=Text(printable(title)), title_justify="left")
    for index, name in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[index], (int, float)) for row in rows)
        table.add_column(Text(name), justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console(file=stream or sys.stderr)
    if not console.is_terminal:
        # A log has no width: nothing in it may be cut short.
        console = Console(file=stream or sys.stderr, width=1000)
    console.print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, int):
        return f"{value:,}"
    return printable(value)
