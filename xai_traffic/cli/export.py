"""`xai-traffic export`: a run to be handed on."""

from __future__ import annotations

import pathlib

from xai_traffic.cli.options import DONE
from xai_traffic.terminal import log, printable


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser(
        "export",
        help="what others need of a run: parameters, rules, scores and model card",
        description="Copy of a finished run what others need, without the optimiser's state, logs "
        "and pictures of captured bytes, with paths shortened to names. Every command takes DIR "
        "as it takes the RUN. `export default` copies the model that comes with xai_traffic.",
    )
    verb.add_argument("run_folder", metavar="RUN", type=pathlib.Path)
    verb.add_argument("--out", required=True, metavar="DIR", type=pathlib.Path)
    verb.add_argument("--overwrite", action="store_true", help="replace DIR if it is an export")
    verb.set_defaults(run=_run)


def _run(options, _) -> int:
    from xai_traffic.report.export import export_run

    out = export_run(options.run_folder, options.out, overwrite=options.overwrite)
    log.info("written: %s", printable(out))
    return DONE
