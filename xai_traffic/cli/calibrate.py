"""`xai-traffic calibrate`: how far a run's verdicts may be believed."""

from __future__ import annotations

import json
import pathlib

from xai_traffic.cli.options import DONE, add_json, add_seed, renew_card, warn_of_scores
from xai_traffic.terminal import log, printable, show_table


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser(
        "calibrate",
        help="fit a run's probabilities, sets of classes and unknown rule on its validation split",
        description="Write RUN/calibration.json, by which `classify` then judges: a temperature "
        "that makes probabilities mean what they say, thresholds of the sets of classes that hold "
        "the true one as often as promised, and the rule by which a session is unknown. Nothing "
        "but validation sessions decide any of it. `train` does so too, with the rule turned off.",
    )
    verb.add_argument("run_folder", metavar="RUN", type=pathlib.Path)
    verb.add_argument(
        "--data",
        metavar="DATASET",
        help="validation sessions of another dataset than the run's own, such as one of the "
        "network that verdicts are asked about",
    )
    verb.add_argument(
        "--unknown",
        metavar="SCORE",
        help="let `classify` answer unknown from now on, by energy, max_logit, softmax, "
        "mahalanobis or nearest_neighbour",
    )
    verb.add_argument(
        "--accept",
        type=float,
        default=95.0,
        metavar="PERCENT",
        help="sessions of known classes that the unknown rule takes for known (default 95)",
    )
    verb.add_argument(
        "--coverage",
        type=float,
        default=90.0,
        metavar="PERCENT",
        help="sessions of each class whose set of classes holds it (default 90)",
    )
    add_seed(verb, "of the training sessions that features are taken of (default: 0)")
    add_json(verb)
    verb.set_defaults(run=_run)


def _run(options, _) -> int:
    from xai_traffic.data.store import open_dataset
    from xai_traffic.evaluation.calibrate import calibrate, write_calibration
    from xai_traffic.training.default_run import own_folder
    from xai_traffic.training.run import load_run

    run = load_run(own_folder(options.run_folder), calibrated=False)
    made = calibrate(
        run,
        open_dataset(options.data) if options.data else None,
        unknown=options.unknown,
        accept=options.accept,
        coverage=options.coverage,
        seed=options.seed,
    )
    path = write_calibration(run.path, made)
    record = made.record
    before, after = record["scores"]["before"], record["scores"]["after"]
    show_table(
        f"validation: {record['sessions']} sessions" + ", LEAKY" * bool(record["leaky"]),
        ("score", "before", "after"),
        [(name, before[name], after[name]) for name in before],
    )
    warn_of_scores(record)
    log.info("%s", record["temperature_rule"])
    for words, names in (
        ("always in the set, for too few validation sessions", record["sets"]["always"]),
        ("without a promise, for no validation session", record["sets"]["without_promise"]),
    ):
        if names:
            log.warning("%s: %s", words, printable(", ".join(names)))
    state = "on" if record["unknown"]["on"] else "off, turn it on with --unknown"
    log.info("%s (%s)", record["unknown"]["rule"], state)
    log.info("written: %s", path)
    renew_card(run.path)
    if options.json:
        print(json.dumps(record))
    return DONE
