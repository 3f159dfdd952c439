"""Make fuzzed inputs of real captures: `python -m fuzz.seeds CAPTURES FOLDER`.

Each capture of up to LARGEST bytes gets options drawn by its name. Nothing of it is kept here.
"""

from __future__ import annotations

import hashlib
import pathlib
import random
import sys

from fuzz import inputs

from xai_traffic.capture.reader import find_captures, open_chunks
from xai_traffic.errors import CaptureError

LARGEST = 6000


def draw_options(rng: random.Random) -> bytes:
    """Return options, without an own program and with all the memory."""
    chosen = rng.randrange(len(inputs.FILTERS)) if rng.random() < 0.3 else 0
    options = [rng.randrange(256) for _ in range(7)]
    options[2] = chosen
    return inputs.OPTIONS.pack(*options, 0, rng.randrange(2 * 10**9) * 10**9)


def main(captures: str, out: str) -> None:
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for _, path in find_captures([captures]):
        path = pathlib.Path(path)
        if path.stat().st_size > LARGEST:
            continue
        try:
            data = b"".join(map(bytes, open_chunks(path)))
        except CaptureError:  # a damaged compressed file
            continue
        digest = hashlib.sha256(data).hexdigest()
        if len(data) <= LARGEST:
            seed = draw_options(random.Random(digest)) + data
            (folder / digest[:16]).write_bytes(seed)


if __name__ == "__main__":
    main(*sys.argv[1:])
