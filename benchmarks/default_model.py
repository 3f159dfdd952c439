"""Make the model to start with, from captures to the folder that the package ships.

    python benchmarks/default_model.py --captures CAPTURES --work DIR \\
        --out xai_traffic/default_model

CAPTURES holds the sets `protocols`, `malware` and, where there, `ustc` and `hostile`. Each stage is
a command of `xai-traffic`, run in DIR; stages that stand there are not run again. It learns the 16
protocols from what programs say to each other: the payload alone, no header. Sessions come from
captures whose licence allows it (see default_sessions.py); those of all other captures are only
looked at afterwards, and what it says of them goes into the card.

A second model that knows the malicious families of the licensed sources too is made beside it and
not shipped: its card says what that one finds elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib

from default_families import alarms
from default_notes import notes
from default_sessions import RULES, SPLIT, make_sessions
from default_unseen import judge_unseen

from xai_traffic.cli import main as xai_traffic
from xai_traffic.data.build import convert
from xai_traffic.report.export import export_run
from xai_traffic.training.run import load_run

CONFIG = "vit.py:multiclass,cpu"
RECIPE = {
    "epochs": 80,
    "batch_size": 32,
    "optimizer.ema": 0.99,
    "augment.header_bytes": 4,  # of a payload: what a protocol is told by
    "augment.header_dropout": 0.0,
    "augment.payload_dropout": 0.99,
    "augment.packet_dropout": 0.5,
    "augment.tail_dropout": 0.3,
    "log.images": 0,  # no pictures of captured bytes
    "log.heat_maps_every": 0,
}
"""For six hundred sessions; augmentation was chosen by the loss on the validation split."""

UNKNOWN, COVERAGE = "mahalanobis", "80"
USTC = "ustc/session_prefix/Benign"
PROGRAMS = ("BitTorrent", "Facetime", "Skype", "WorldOfWarcraft")
"""Programs with protocols of their own, that it has not learnt; by them UNKNOWN was chosen."""

METHODS = "integrated_gradients,lrp_epsilon,owen_values,attention"


def main() -> None:
    """Run the stages."""
    options = parse()
    captures, out = options.captures.absolute(), options.out.absolute()
    configs = pathlib.Path(__file__).parents[1].absolute() / "configs"
    options.work.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(options.work):
        run, families, data = (pathlib.Path(name) for name in ("start", "families", "data"))
        for folder in (families, run):
            knows = folder == families
            dataset = make_sessions(captures, data, families=knows, seed=options.seed)
            if not (folder / "result.json").exists():
                recipe = {**RECIPE, "data.path": dataset.path, "seed": options.seed}
                flags = [f"--config.{key}={value}" for key, value in recipe.items()]
                call("train", "--config", str(configs / CONFIG), "--workdir", str(folder), *flags)
        call("calibrate", str(run), "--unknown", UNKNOWN, "--coverage", COVERAGE)
        call("evaluate", str(run))
        if (captures / USTC).exists():
            programs = data / "programs"
            if not programs.exists():
                paths = [captures / USTC / f"{name}.pcap" for name in PROGRAMS]
                convert(paths, programs, rules=RULES, split=SPLIT)
            call("evaluate", str(run), "--open-set", str(programs))
        call("evaluate", str(run), "--forge", "addresses,ports,times,ttl,sequence,all")
        call("evaluate", str(run), "--explanations", "--methods", METHODS, "--limit", "64")
        audit = pathlib.Path("audit")
        call("audit", str(dataset.path), str(run), "--out", str(audit), "--overwrite")
        told = notes(judge_unseen(load_run(run), captures), alarms(families, captures, data))
        (run / "notes.md").write_text(told, "utf-8")
        call("card", str(run), "--audit", str(audit))
        export_run(run, out, overwrite=True)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out.name}: {size:,} bytes")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--captures", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder of all stages")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the model")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def call(*arguments: str) -> None:
    """Run a command of xai-traffic, and end with it if it fails."""
    status = xai_traffic(arguments)
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    main()
