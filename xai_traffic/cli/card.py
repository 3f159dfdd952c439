"""`xai-traffic card`: what a run is, what it is worth and what it must not be used for."""

from __future__ import annotations

import pathlib

from xai_traffic.cli.options import DONE
from xai_traffic.terminal import log, printable


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser(
        "card",
        help="the model card of a run: RUN/model_card.md",
        description="Write what stands in the run's folder and its dataset's manifest as a model "
        "card: data with hashes, mask, split, leaks, scores with intervals, known shortcuts, and "
        "what it must not be used for. `evaluate` and `calibrate` write it anew. What you write "
        "into RUN/notes.md stands in it.",
    )
    verb.add_argument("run_folder", metavar="RUN", type=pathlib.Path)
    verb.add_argument(
        "--audit",
        metavar="AUDIT",
        type=pathlib.Path,
        help="folder or audit.json of `xai-traffic audit`; the run keeps it for later cards",
    )
    verb.set_defaults(run=_run)


def _run(options, _) -> int:
    from xai_traffic.report.model_card import write_model_card
    from xai_traffic.training.default_run import own_folder

    _, path = write_model_card(own_folder(options.run_folder), options.audit)
    log.info("written: %s", printable(path))
    return DONE
