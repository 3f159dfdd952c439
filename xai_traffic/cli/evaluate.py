"""`xai-traffic evaluate`: score a run on a split."""

from __future__ import annotations

import json
import pathlib

from xai_traffic.cli.options import DONE, add_json
from xai_traffic.terminal import log, show_table


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser("evaluate", help="score a run on a split")
    verb.add_argument("run_folder", metavar="RUN", type=pathlib.Path)
    verb.add_argument("--split", default="test", choices=("train", "validation", "test"))
    verb.add_argument("--data", metavar="DATASET", help="another dataset than the run's own")
    add_json(verb)
    verb.set_defaults(run=_run)


def _run(options, _) -> int:
    from xai_traffic.report.evaluation import write_evaluation
    from xai_traffic.training.run import load_run

    result, path = write_evaluation(load_run(options.run_folder), options.split, options.data)
    names = ("accuracy", "macro_f1", "mcc", "roc_auc", "pr_auc", "expected_calibration_error")
    show_table(
        f"{options.split}: {result['sessions']} sessions",
        ("score", "value"),
        [(name, result[name]) for name in names if result[name] is not None],
    )
    log.info("written: %s", path)
    if options.json:
        print(json.dumps(result))
    return DONE
