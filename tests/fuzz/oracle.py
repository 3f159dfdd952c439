"""Run a core over a fuzzed input and return all that it says."""

from __future__ import annotations

from fuzz import inputs

from xai_traffic.capture import core_numpy

NOTHING = (b"", b"", b"", 0, (), ())
"""What comes of a filter that is none."""


def read(make, program, given: inputs.Input) -> tuple:
    """Return (tiles, packet rows, session rows, packets, dropped, fault) of a core.

    `make` is a type of core, `program` the filter as it wants it.
    """
    core = make(program=program, **given.rules)
    made, at = [], 0
    for size in (*given.cuts, len(given.capture)):
        made.append(core.feed(memoryview(given.capture)[at : at + size]))
        at += size
        if given.expire is not None:
            made.append((b"", b"", core.expire(given.expire)))
    made.append(core.finish())
    tiles, packets, sessions = (b"".join(map(bytes, parts)) for parts in zip(*made, strict=True))
    return tiles, packets, sessions, core.packets, tuple(core.dropped), tuple(core.fault)


def by_numpy(data: bytes) -> tuple:
    """Return what the NumPy core says of an input."""
    given = inputs.take_apart(data)
    if given.program is None:
        return NOTHING
    return read(core_numpy.Core, given.program, given)


def by_c(data: bytes, make) -> tuple:
    """Return what the C core, `make`, says of an input."""
    given = inputs.take_apart(data)
    try:
        return read(make, given.code, given)
    except ValueError:
        if given.program is not None:
            raise
        return NOTHING
