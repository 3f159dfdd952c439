"""`xai-traffic train`: a dataset to a run."""

from __future__ import annotations

import json
import pathlib

from xai_traffic.cli.options import DONE, add_json


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser(
        "train",
        help="a dataset to a run",
        description="Train by a configuration; runs on after an interruption. Every field of the "
        "configuration is a flag: --config.optimizer.learning_rate=1e-4",
        epilog="example: xai-traffic train --config configs/vit.py:multiclass "
        "--config.data.path=DATASET --workdir RUN",
    )
    verb.add_argument("--config", required=True, metavar="FILE.py[:WORDS]")
    verb.add_argument("--workdir", required=True, metavar="RUN", type=pathlib.Path)
    add_json(verb)
    verb.set_defaults(run=_run)


def _run(options, overrides) -> int:
    from xai_traffic.training.config import parse_flags
    from xai_traffic.training.loop import train

    result = train(parse_flags(options.config, overrides), options.workdir)
    if options.json:
        print(json.dumps(result))
    return DONE
