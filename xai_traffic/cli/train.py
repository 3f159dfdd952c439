"""`xai-traffic train`: a dataset to a run, or to the runs of a sweep."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys

from xai_traffic.cli.options import DONE, FAILED, WRONG_USAGE, add_json
from xai_traffic.terminal import log, printable


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
    verb.add_argument(
        "--workdir", metavar="RUN", type=pathlib.Path, help="of a sweep: the folder for its runs"
    )
    sweep = verb.add_mutually_exclusive_group()
    sweep.add_argument(
        "--sweep",
        action="store_true",
        help="train every point of the config file's sweep(), one after the other, in RUN/NAME of "
        "the point; finished ones are skipped, one that fails does not cost the others",
    )
    sweep.add_argument(
        "--sweep-point", type=int, metavar="N", help="train point N alone: a task of a job array"
    )
    sweep.add_argument(
        "--sweep-list",
        action="store_true",
        help="print the points, one a line: number and name; with --json their values too",
    )
    add_json(verb)
    verb.set_defaults(run=_run)


def _run(options, overrides) -> int:
    from xai_traffic.training.config import parse_flags
    from xai_traffic.training.loop import train

    if options.workdir is None and not options.sweep_list:
        print("xai-traffic train: name the run's folder: --workdir RUN", file=sys.stderr)
        return WRONG_USAGE
    if options.sweep or options.sweep_list or options.sweep_point is not None:
        return _run_sweep(options, overrides)
    result = train(parse_flags(options.config, overrides), options.workdir)
    if options.json:
        print(json.dumps(result))
    return DONE


def _run_sweep(options, overrides) -> int:
    from xai_traffic.training.sweep import load_sweep, point_of, train_sweep

    points = load_sweep(options.config, overrides)
    if options.sweep_list:
        told = [{"point": p.number, "name": p.name, "values": p.values} for p in points]
        if options.json:
            print(json.dumps(told, default=str))
        for point in () if options.json else told:
            print(f"{point['point']} {point['name']}")
        return DONE
    if options.sweep_point is not None:
        points = [point_of(points, options.sweep_point)]
    outcomes = train_sweep(points, options.workdir)
    if options.json:
        print(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes]))
    failed = [outcome for outcome in outcomes if outcome.fault is not None]
    for outcome in failed:
        log.error("failed: point %d, %s", outcome.point, printable(outcome.run))
    return FAILED if failed else DONE
