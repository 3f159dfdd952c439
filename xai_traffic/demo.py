"""The whole way on captures made on the spot: lab, dataset, two runs, scores, report."""

from __future__ import annotations

import json
import pathlib

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert, summarise
from xai_traffic.errors import XaiTrafficError
from xai_traffic.lab.write import write_lab
from xai_traffic.report.evaluation import write_evaluation
from xai_traffic.report.explanations import explain_run
from xai_traffic.terminal import log, show_table
from xai_traffic.training.config import load_config
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run

# Who talks to whom is hidden, so that the models must find what is said.
RULES = ReadingRules(mask="addresses+ports")
SPLIT = "random:60/20/20"
# A part of the lab, so that the whole way stays short.
FAMILIES = ("dns", "mail", "web", "beacon", "exploit", "tunnel")
RUNS = {"vit": "multiclass,demo", "xception": "multiclass,demo"}


def demo(out: pathlib.Path, *, seed: int = 0) -> pathlib.Path:
    """Run every stage that has not been run in `out` yet and return the report's path.

    Raises:
        XaiTrafficError: `out` holds something else, a demo with another seed, or a damaged mark.
    """
    out = pathlib.Path(out)
    _claim(out, seed)
    captures, dataset, report = out / "captures", out / "dataset", out / "report"
    if not captures.exists():
        log.info("1/5 lab: captures whose evidence is known")
        write_lab(captures, seed=seed, families=FAMILIES)
    if not dataset.exists():
        log.info("2/5 convert: captures to a dataset")
        conversion = convert([captures], dataset, rules=RULES, split=SPLIT, seed=seed)
        for title, columns, rows in summarise(conversion.manifest):
            show_table(title, columns, rows)
    scores = []
    for model, words in RUNS.items():
        run = out / "runs" / model
        if not (run / "result.json").exists():
            log.info("3/5 train: %s", model)
            train(load_config(f"configs/{model}.py:{words}", path=dataset, seed=seed), run)
        scored = run / "evaluation-test.json"
        if not scored.exists():
            log.info("4/5 evaluate: %s", model)
            write_evaluation(load_run(run))
        result = json.loads(scored.read_text(encoding="utf-8"))
        names = ("accuracy", "macro_f1", "expected_calibration_error")
        scores.append((model, result["parameters"], *(result[name] for name in names)))
    show_table(
        "test split", ("model", "parameters", "accuracy", "macro-F1", "calibration error"), scores
    )
    if not report.exists():
        log.info("5/5 explain: sessions of the test split")
        explain_run(load_run(out / "runs" / "vit"), [], report, dataset=dataset, split="test")
    return report / "report.html"


def _claim(out: pathlib.Path, seed: int) -> None:
    """Mark a folder as a demo's, so that no other folder is ever written into."""
    mark = out / "demo.json"
    if mark.exists():
        try:
            stands = json.loads(mark.read_text(encoding="utf-8"))["seed"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise XaiTrafficError(
                f"{mark} cannot be read ({error}): choose another --out, or remove {out} if all "
                "in it is a demo's"
            ) from error
        if stands != seed:
            raise XaiTrafficError(
                f"{out} holds a demo with seed {stands}: choose another --out, or --seed {stands}"
            )
    elif out.exists() and any(out.iterdir()):
        raise XaiTrafficError(f"{out} exists and holds no demo: choose another --out")
    else:
        out.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps({"seed": seed}) + "\n", encoding="utf-8")
