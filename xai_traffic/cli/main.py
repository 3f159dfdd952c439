"""Run one verb: parse, call, and turn errors into a line and a status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from xai_traffic import __version__
from xai_traffic.cli import (
    audit,
    benchmark_explainers,
    calibrate,
    card,
    classify,
    compare,
    convert,
    demo,
    evaluate,
    explain,
    export,
    lab,
    train,
)
from xai_traffic.cli.options import DONE, FAILED
from xai_traffic.errors import PeerError, XaiTrafficError
from xai_traffic.terminal import configure_logging, printable
from xai_traffic.training.interruption import INTERRUPTED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        parser = make_parser()
        options, rest = parser.parse_known_args(arguments)
        if rest and options.verb != "train":
            parser.error(f"unknown arguments: {printable(' '.join(rest))}")
        configure_logging()
        status = options.run(options, rest)
        print(end="", flush=True)  # what cannot be written must show here, not after the status
        return status
    except PeerError as error:
        print(f"xai-traffic: {printable(error)}", file=sys.stderr, flush=True)
        os._exit(FAILED)  # the usual way out waits a minute for the process that is gone
    except XaiTrafficError as error:
        print(f"xai-traffic: {printable(error)}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # Analysts pipe verdicts on; the reader going away is their choice, not our failure.
        _discard_output()
        return DONE
    except KeyboardInterrupt:
        print("xai-traffic: interrupted", file=sys.stderr)
        return INTERRUPTED
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
    verbs = parser.add_subparsers(
        dest="verb", required=True, metavar="VERB", parser_class=_VerbParser
    )
    ways = (convert, audit, train, calibrate, evaluate, card, export, compare, classify, explain)
    for verb in (*ways, lab, benchmark_explainers, demo):
        verb.add(verbs)
    return parser


class _VerbParser(argparse.ArgumentParser):
    """Takes what is named and options in any order: `explain RUN --out why a.pcap b.pcap`."""

    _inside = False

    def parse_known_args(self, args=None, namespace=None):
        """Parse as `parse_known_intermixed_args` does, which itself comes back here for each part.

        Returns:
            (options, arguments that are unknown).
        """
        if self._inside:
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


class _Version(argparse.Action):
    def __init__(self, option_strings, dest, **_):
        super().__init__(option_strings, dest, nargs=0, help="show version and capture core")

    def __call__(self, parser, *_):
        from xai_traffic.capture.core import core_name

        print(f"xai-traffic {__version__}, capture core: {core_name()}")
        parser.exit(DONE)
