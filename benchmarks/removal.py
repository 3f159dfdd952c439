"""Compare what a model says without packets: zero-filled, replaced by drawn ones, closed up.

    python benchmarks/removal.py RUN DATASET [--sessions 60] [--draws 4] [--seed 0]

Takes sessions of 3 to 8 packets of the test split, by chance, and explains the verdict on each by
the exact Shapley values of its packets under each removal; packets are drawn from the training
split. Prints the tables, and one JSON line before them.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

import numpy as np
from machine import machine, own_versions

from xai_traffic import explain
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.report.markdown import table
from xai_traffic.training.run import Run, load_run

LEAST, MOST = 3, 8
"""Packets of the sessions: 2^8 masks are tried for the longest."""

POOL = 2000
"""Sessions of the training split that packets are drawn from."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("dataset", type=pathlib.Path)
    parser.add_argument("--sessions", type=int, default=60)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    run, dataset = load_run(options.run), open_dataset(options.dataset)
    found = compare(run, dataset, options.sessions, options.draws, options.seed)
    found |= {"run": options.run.name, "seed": options.seed, "draws": options.draws}
    about = {**machine(), **own_versions("jax", "numpy")}
    print(json.dumps({**found, **about}))
    print_tables(found)
    names = ("python", "xai-traffic", "jax", "numpy")
    versions = ", ".join(f"{name} {about[name]}" for name in names)
    print(
        f"\n{about['date']}: {about['cores']} cores of {about['processor']}, {about['system']}; "
        f"{versions}; draws {options.draws}, seed {options.seed}\n"
    )


def compare(run: Run, dataset: Dataset, sessions: int, draws: int, seed: int) -> dict:
    """Return the figures of each removal, and of each pair of them, as dictionaries by name."""
    rng = np.random.Generator(np.random.Philox(seed))
    rows = dataset.rows("test")
    counts = dataset.tile_counts[rows]
    rows = rng.permutation(rows[(counts >= LEAST) & (counts <= MOST)])[:sessions]
    traffic = explain.traffic_of(dataset, np.sort(rows))
    pool = explain.traffic_of(dataset, rng.permutation(dataset.rows("train"))[:POOL])
    lengths = np.split(traffic.packets["length"], np.cumsum(traffic.counts)[:-1])
    groups = np.stack([explain.packet_groups(own) for own in lengths])
    present = np.arange(groups.max() + 1) < traffic.counts[:, None]
    x = np.float32(traffic.images())
    verdicts = run.logits(x).argmax(1).astype(np.int32)
    args = run.model.apply, run.variables, x, groups
    _, likes = explain.draw_packets(traffic, pool, seed=seed)
    ways = {
        "zero-fill": {},
        "drawn packets": {"removal": explain.drawn_packets(traffic, pool, draws=draws, seed=seed)},
        "closed up": {"removal": explain.closed_up(traffic)},
    }
    ends = np.repeat([[True], [False]], present.shape[1], axis=1)
    values, figures = {}, {}
    for name, way in ways.items():
        begun = time.perf_counter()
        values[name] = explain.exact_shapley(*args, verdicts, **way).values
        seconds = time.perf_counter() - begun
        logits = np.stack(explain.masked_logits(*args, ends, **way))
        target = np.take_along_axis(logits, verdicts[:, None, None], axis=2)[..., 0]
        single = explain.occlusion(*args, verdicts, **way)
        figures[name] = {
            "logit": float(target[:, 0].mean()),
            "fall_all": float((target[:, 0] - target[:, 1]).mean()),
            "turned_all": float((logits[:, 1].argmax(1) != verdicts).mean()),
            "fall_one": float(np.where(present, single, -np.inf).max(1).mean()),
            "packets_needed": _needed(explain.counterfactual(*args, scores=values[name], **way)),
            "seconds": seconds,
        }
    pairs = {}
    for scores in ways:
        for judge, way in ways.items():
            curves = explain.deletion_curves(*args, values[scores], verdicts, seed=seed, **way)
            pairs[f"{scores} | {judge}"] = {
                "gain": float(curves.gain().mean()),
                "deletion_gain": _deletion_gain(curves),
                "spearman": float(
                    np.nanmean(explain.spearman(values[scores], values[judge], present))
                ),
            }
    return {
        "sessions": len(traffic),
        "packets": int(traffic.counts.sum()),
        "drawn_for": float(likes.mean()),
        "mask": traffic.mask,
        "ways": figures,
        "pairs": pairs,
    }


def _deletion_gain(curves: explain.Curves) -> float:
    """Return the area of random deletion curves less that of the explanation's own, in logits."""
    ways = zip(curves.deletion, curves.random_deletion, curves.places, strict=True)
    return float(np.mean([np.trapezoid(c.mean(0) - own, at) for own, c, at in ways]))


def _needed(found: list[explain.Counterfactual]) -> dict:
    """Return the share of verdicts that some packets turn, and how many those are on average."""
    sizes = [len(own.removed) for own in found if own.flips]
    return {"turned": len(sizes) / len(found), "packets": float(np.mean(sizes)) if sizes else None}


def print_tables(found: dict) -> None:
    """Print what a reader compares."""
    print(
        f"\n{found['run']}, {found['sessions']} sessions, {found['packets']} packets; the pool has "
        f"a like for {found['drawn_for']:.0%} of the packets\n"
    )
    print(
        "| removed packets are | logit | fall, best packet | fall, all | verdict turns, all | "
        "turns by some | these are | seconds |\n|---|---|---|---|---|---|---|---|"
    )
    for name, own in found["ways"].items():
        needed = own["packets_needed"]
        size = "" if needed["packets"] is None else f"{needed['packets']:.2f}"
        print(
            f"| {name} | {own['logit']:.2f} | {own['fall_one']:.2f} | {own['fall_all']:.2f} | "
            f"{own['turned_all']:.0%} | {needed['turned']:.0%} | {size} | {own['seconds']:.1f} |"
        )
    names = list(found["ways"])
    print(
        "\nGain of Shapley values over random orders, insertion less deletion (deletion alone), in "
        "logits; Spearman of the values with those of the column\n"
    )
    rows = []
    for name in names:
        pairs = [found["pairs"][f"{name} | {judge}"] for judge in names]
        cells = [
            f"{pair['gain']:.3f} ({pair['deletion_gain']:.3f}); {pair['spearman']:.2f}"
            for pair in pairs
        ]
        rows.append((name, *cells))
    print(*table(("values of", *names), rows), sep="\n", end="")


if __name__ == "__main__":
    main()
