"""`xai-traffic benchmark-explainers`: which explainer finds evidence that is known."""

from __future__ import annotations

import json
import pathlib
import sys

from xai_traffic.cli.options import DONE, add_json, add_seed
from xai_traffic.report.intervals import with_interval
from xai_traffic.terminal import log, printable, show_table


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser(
        "benchmark-explainers",
        help="which explainer finds evidence that is known",
        description="Of a binary run that was trained on a lab (`xai-traffic lab --plant KIND`, "
        "converted alone): prove by taking the plants out that its verdicts rest on them, then "
        "score every method by what falls upon the plants of sessions it has never seen. Writes "
        "RUN/explainers.json.",
    )
    verb.add_argument("run_folder", metavar="RUN", type=pathlib.Path)
    verb.add_argument(
        "--control",
        metavar="RUN",
        type=pathlib.Path,
        help="the same run trained with --config.data.permute_labels=True, for comparison",
    )
    verb.add_argument("--methods", metavar="NAME,NAME", help="default: all that suit the model")
    verb.add_argument("--sessions", type=int, metavar="N", help="explained (default: 48)")
    add_seed(verb, "of the sessions (default: 0)")
    add_json(verb)
    verb.set_defaults(run=_run)


def _run(options, _) -> int:
    from xai_traffic.evaluation.explainer_benchmark import SESSIONS
    from xai_traffic.report.evaluation import write_explainer_benchmark
    from xai_traffic.training.default_run import own_folder
    from xai_traffic.training.run import load_run

    result, path = write_explainer_benchmark(
        load_run(own_folder(options.run_folder)),
        control=None if options.control is None else load_run(options.control),
        methods=options.methods and tuple(options.methods.split(",")),
        sessions=SESSIONS if options.sessions is None else options.sessions,
        seed=options.seed,
    )
    show_benchmark(result)
    log.info("written: %s", printable(path))
    if options.json:
        print(json.dumps(result))
    return DONE


def show_benchmark(result: dict) -> None:
    """Print what the model relies on, the table of the methods, and the answer to the claim."""
    from xai_traffic.evaluation.evidence_scores import UNITS

    stream = sys.stderr
    relied, explained = result["reliance"], result["explained"]
    show_table(
        f"{result['model']}, lab {result['lab']['plant'] or 'of the families own plants'}",
        ("accuracy", "with 95 % interval"),
        [
            ("with the plants", _told(relied["accuracy"])),
            ("the best judge's", f"{relied['best']:.3f}"),
            ("without the plants", _told(relied["without"])),
            ("so the model rests on them", "yes" if relied["relies"] else "NO, or not enough"),
        ],
        stream=stream,
    )
    control = result.get("control", {}).get("methods", {})
    show_table(
        f"{explained['sessions']} of {explained['turned']} sessions whose verdict turns with the "
        f"plant: part of the evidence among as many first places, with 95 % interval"
        + (" [permuted labels]" if control else ""),
        ("explanation", *UNITS, "answers"),
        [
            (
                name,
                *(
                    _told(own[unit]["rank"])
                    + (f" [{_mean(control[name][unit]['rank'])}]" if name in control else "")
                    for unit in UNITS
                ),
                ", ".join(f"which {unit}" for unit in result["answers"].get(name, ())),
            )
            for name, own in result["methods"].items()
        ]
        + [("by chance", *(f"{result['chance'][unit]:.3f}" for unit in UNITS), "")],
        stream=stream,
    )
    logit = result["claim"]["logit"]
    show_table(
        "logits of Malware that are lost without a packet, means with 95 % interval",
        ("packet", "logits"),
        [
            ("with the plant", _told(logit["planted"])),
            ("another one of the session", _told(logit["other"])),
            ("difference", _told(logit["difference"])),
        ],
        stream=stream,
    )


def _told(found: dict) -> str:
    return with_interval(found, "{:.2f}".format, missing="-")


def _mean(found: dict) -> str:
    return with_interval(found["mean"], "{:.2f}".format, missing="-")
