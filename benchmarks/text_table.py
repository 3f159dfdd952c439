"""A table of Markdown as one text."""

from __future__ import annotations

from collections.abc import Sequence

from xai_traffic.report import markdown


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table without the blank line behind it."""
    return "\n".join(markdown.table(head, rows)[:-1])
