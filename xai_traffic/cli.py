"""The `xai-traffic` command: flags to calls, nothing else."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Sequence

from xai_traffic import __version__
from xai_traffic.capture.rule_options import (
    add_community_id_seed,
    add_reading_rules,
    chosen_rules,
)
from xai_traffic.errors import CaptureError, XaiTrafficError
from xai_traffic.terminal import configure_logging, log, printable, show_table

DONE, FAILED, WRONG_USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status: 0 done, 1 failed, 2 wrong usage."""
    try:
        parser = make_parser()
        options, rest = parser.parse_known_args(arguments)
        if rest and options.verb != "train":
            parser.error(f"unknown arguments: {printable(' '.join(rest))}")
        configure_logging()
        status = options.run(options, rest)
        print(end="", flush=True)  # what cannot be written must show here, not after the status
        return status
    except XaiTrafficError as error:
        print(f"xai-traffic: {printable(error)}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # Analysts pipe verdicts on; the reader going away is their choice, not our failure.
        _discard_output()
        return DONE
    except KeyboardInterrupt:
        print("xai-traffic: interrupted", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"xai-traffic: {printable(error)}", file=sys.stderr)
        try:
            print(end="", flush=True)
        except OSError:
            _discard_output()
        return FAILED


def _discard_output() -> None:
    """Send what is left for standard output nowhere: the interpreter would fail on it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="xai-traffic",
        description="Packet captures in; out come verdicts on every session, and why.",
    )
    parser.add_argument("--version", action=_Version)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add in (_convert, _train, _evaluate, _classify, _explain, _lab, _demo):
        add(verbs)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings, dest, **_):
        super().__init__(option_strings, dest, nargs=0, help="show version and capture core")

    def __call__(self, parser, *_):
        from xai_traffic.capture.core import core_name

        print(f"xai-traffic {__version__}, capture core: {core_name()}")
        parser.exit(DONE)


# --- convert -----------------------------------------------------------------------------------


def _convert(verbs) -> None:
    verb = verbs.add_parser(
        "convert",
        help="captures to a dataset",
        description="Make a dataset of captures or folders of them; with --mask, of a dataset.",
    )
    verb.add_argument("inputs", nargs="*", metavar="CAPTURE_OR_FOLDER_OR_DATASET")
    _add_list(verb)
    verb.add_argument("--out", required=True, metavar="DATASET", type=pathlib.Path)
    verb.add_argument(
        "--split",
        metavar="SPEC",
        help="KEY:TRAIN/VALIDATION/TEST in per cent, KEY one of random, capture, hash "
        "(default random:70/10/20; a derived dataset keeps its split)",
    )
    verb.add_argument("--labels", metavar="FILE.csv", type=pathlib.Path)
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of the split (default 0)")
    verb.add_argument("--overwrite", action="store_true", help="replace DATASET if it exists")
    verb.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that read captures side by side; the dataset is the same (default: the "
        "processors there are)",
    )
    add_reading_rules(verb)
    _add_json(verb)
    verb.set_defaults(run=_run_convert)


def _add_list(verb) -> None:
    verb.add_argument(
        "--list",
        action="append",
        default=[],
        metavar="FILE",
        help="take more paths from a file, or from standard input (-): one a line, # for comments",
    )


def _no_captures(verb: str) -> int:
    print(f"xai-traffic {verb}: name captures, or a --list of them", file=sys.stderr)
    return WRONG_USAGE


def _run_convert(options, _) -> int:
    from xai_traffic.data.build import convert, summarise
    from xai_traffic.data.workers import usable_processors

    if not options.inputs and not options.list:
        return _no_captures("convert")
    conversion = convert(
        options.inputs,
        options.out,
        rules=chosen_rules(options),
        split=options.split,
        labels=options.labels,
        seed=options.seed,
        overwrite=options.overwrite,
        workers=usable_processors() if options.workers is None else options.workers,
        lists=options.list,
    )
    for title, columns, rows in summarise(conversion.manifest):
        show_table(title, columns, rows)
    if options.json:
        print(json.dumps(conversion.manifest))
    for capture, reason in conversion.failures:
        log.error("%s: %s", printable(capture), printable(reason))
    return FAILED if conversion.failures else DONE


# --- train, evaluate ---------------------------------------------------------------------------


def _train(verbs) -> None:
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
    _add_json(verb)
    verb.set_defaults(run=_run_train)


def _run_train(options, overrides) -> int:
    from xai_traffic.training.config import parse_flags
    from xai_traffic.training.loop import train

    result = train(parse_flags(options.config, overrides), options.workdir)
    if options.json:
        print(json.dumps(result))
    return DONE


def _evaluate(verbs) -> None:
    verb = verbs.add_parser("evaluate", help="score a run on a split")
    verb.add_argument("run_folder", metavar="RUN", type=pathlib.Path)
    verb.add_argument("--split", default="test", choices=("train", "validation", "test"))
    verb.add_argument("--data", metavar="DATASET", help="another dataset than the run's own")
    _add_json(verb)
    verb.set_defaults(run=_run_evaluate)


def _run_evaluate(options, _) -> int:
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


# --- classify, explain -------------------------------------------------------------------------


def _classify(verbs) -> None:
    verb = verbs.add_parser(
        "classify",
        help="a verdict on every session of captures, one JSON line each",
        description="Print a verdict on every session as one JSON line, in the order of the "
        "sessions' ends; `session` is its number in the capture, `end` why it ended. From a pipe, "
        "such as standard input, sessions are judged while it runs: when they end, have their 64 "
        "packets (end: packet limit) or were quiet for a while (end: quiet), each once; Ctrl-C or "
        "SIGTERM ends it: what is open is judged and printed, and the status is 0. A file that is "
        "interrupted is judged as far as it was read, and the status is 1.",
        epilog="live: tcpdump -i eth0 -U -w - | xai-traffic classify RUN - "
        "(-U hands packets on at once; without it they come in blocks)",
    )
    verb.add_argument("run_folder", metavar="RUN", type=pathlib.Path)
    verb.add_argument(
        "captures", nargs="*", metavar="CAPTURE", help="a file, a folder, a pattern, a pipe, or -"
    )
    _add_list(verb)
    verb.add_argument(
        "--quiet-after",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="judge a session of a pipe that had no packet for so long by the packets' times; 0: "
        "judge every session at its end alone, as in files (default 60)",
    )
    add_community_id_seed(verb, "the run's")
    verb.set_defaults(run=_run_classify)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of seconds from 0 up")
    return seconds


def _run_classify(options, _) -> int:
    from xai_traffic.capture.reader import find_captures
    from xai_traffic.evaluation.classify import classify
    from xai_traffic.training.interruption import Interruption
    from xai_traffic.training.run import load_run

    if not options.captures and not options.list:
        return _no_captures("classify")
    run = load_run(options.run_folder, community_id_seed=options.community_id_seed)
    missing: list[CaptureError] = []
    captures = find_captures(options.captures, missing, options.list)
    for error in missing:
        log.error("%s", printable(error))
    status = FAILED if missing else DONE
    with Interruption(when="as soon as what was read is judged") as interruption:
        for name, path in captures:
            if interruption.asked:
                log.error("%s: not read, for it was stopped", printable(name))
                status = FAILED
                continue
            try:
                for verdict in classify(
                    run,
                    path,
                    name,
                    quiet_after=options.quiet_after,
                    stop=lambda: interruption.asked,
                ):
                    print(json.dumps(verdict), flush=True)
            except XaiTrafficError as error:
                log.error("%s", printable(error))
                status = FAILED
    return status


def _explain(verbs) -> None:
    verb = verbs.add_parser(
        "explain", help="verdicts with their reasons: report.html, explanations.jsonl, figures"
    )
    verb.add_argument("run_folder", metavar="RUN", type=pathlib.Path)
    verb.add_argument("captures", nargs="*", metavar="CAPTURE")
    _add_list(verb)
    verb.add_argument("--data", metavar="DATASET", help="explain sessions of a dataset instead")
    verb.add_argument("--split", default="test", choices=("train", "validation", "test"))
    verb.add_argument(
        "--sessions",
        type=_numbers,
        metavar="N,N-N",
        help="session numbers (default: the most telling few)",
    )
    verb.add_argument(
        "--methods",
        metavar="NAME,NAME",
        help="integrated_gradients, grad_cam, attention (default: all that the model has)",
    )
    add_community_id_seed(verb, "the run's; a dataset keeps its own")
    verb.add_argument("--out", required=True, metavar="DIR", type=pathlib.Path)
    verb.add_argument("--overwrite", action="store_true", help="replace DIR if it exists")
    verb.set_defaults(run=_run_explain)


def _run_explain(options, _) -> int:
    from xai_traffic.report.explanations import explain_run
    from xai_traffic.training.run import load_run

    if bool(options.captures or options.list) == bool(options.data):
        print("xai-traffic explain: name captures, or --data DATASET, not both", file=sys.stderr)
        return WRONG_USAGE
    written = explain_run(
        load_run(options.run_folder, community_id_seed=options.community_id_seed),
        options.captures,
        options.out,
        lists=options.list,
        dataset=options.data,
        split=options.split,
        sessions=options.sessions,
        methods=options.methods and tuple(options.methods.split(",")),
        overwrite=options.overwrite,
    )
    for _, reason in written["failures"]:
        log.error("%s", printable(reason))
    print(printable(written["report"]))
    return FAILED if written["failures"] else DONE


def _numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            part = range(int(first), int(last or first) + 1)
        except ValueError:
            part = range(0)
        if not part:
            raise argparse.ArgumentTypeError(f"{text!r}: give numbers and ranges like 0,3,10-12")
        numbers.extend(part)
    return numbers


# --- lab, demo ---------------------------------------------------------------------------------


def _lab(verbs) -> None:
    verb = verbs.add_parser("lab", help="make captures whose evidence is known")
    verb.add_argument("--out", required=True, metavar="DIR", type=pathlib.Path)
    verb.add_argument("--seed", type=int, default=0, metavar="N")
    verb.add_argument("--overwrite", action="store_true", help="replace DIR if it exists")
    verb.set_defaults(run=_run_lab)


def _run_lab(options, _) -> int:
    from xai_traffic.lab.write import write_lab

    write_lab(options.out, seed=options.seed, overwrite=options.overwrite)
    print(printable(options.out))
    return DONE


def _demo(verbs) -> None:
    verb = verbs.add_parser("demo", help="the whole way on captures it makes itself")
    verb.add_argument("--out", default="demo", metavar="DIR", type=pathlib.Path)
    verb.add_argument("--seed", type=int, default=0, metavar="N")
    verb.set_defaults(run=_run_demo)


def _run_demo(options, _) -> int:
    from xai_traffic.demo import demo

    print(printable(demo(options.out, seed=options.seed)))
    return DONE


def _add_json(verb) -> None:
    verb.add_argument("--json", action="store_true", help="the result as JSON on standard output")
