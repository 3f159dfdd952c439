"""`xai-traffic train`: a dataset to a run, or to the runs of a sweep."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys

from xai_traffic.cli.options import DONE, FAILED, WRONG_USAGE, add_json
from xai_traffic.errors import XaiTrafficError
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
    calibrate_trained(options.workdir, result)
    if options.json:
        print(json.dumps(result))
    return DONE


def calibrate_trained(folder: pathlib.Path, result: dict) -> None:
    """Calibrate a run that was just trained, unless it is: one more pass over its validation split.

    Many processes leave it to `xai-traffic calibrate`, and so do controls on permuted labels, whose
    probabilities mean nothing. What fails here costs nothing of the run.
    """
    import jax

    from xai_traffic.evaluation.calibrate import calibrate, write_calibration
    from xai_traffic.training.calibration import read_calibration
    from xai_traffic.training.run import load_run, read_config

    config = read_config(folder)
    if jax.process_count() > 1 or config.data.permute_labels:
        return
    try:
        stands = read_calibration(folder)
        if stands and stands.record["params_sha256"] == result["best_params_sha256"]:
            return
        made = calibrate(load_run(folder, calibrated=False), limit=config.data.limit)
        write_calibration(folder, made)
    except (XaiTrafficError, jax.errors.JaxRuntimeError) as error:
        log.warning("%s is not calibrated: %s", printable(folder), printable(error))
        return
    log.info("%s: calibrated, %s", printable(folder), made.record["temperature_rule"])


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
    for outcome in outcomes:
        if outcome.fault is None:
            calibrate_trained(pathlib.Path(outcome.run), outcome.result)
    failed = [outcome for outcome in outcomes if outcome.fault is not None]
    for outcome in failed:
        log.error("failed: point %d, %s", outcome.point, printable(outcome.run))
    return FAILED if failed else DONE
