"""Explain by xai_traffic and print the time, or the memory, as a line of JSON.

    python benchmarks/explain_ours.py prepare FOLDER MODEL SIZE SESSIONS SEED [DATASET [RUN]]
    python benchmarks/explain_ours.py fixed|tolerance|grad_cam|rates FOLDER MODEL REPEATS
    python benchmarks/explain_ours.py memory FOLDER MODEL METHOD BUDGET

Started by explain.py. The first form makes what both sides share: a network, its weights, sessions
and the classes to explain.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import pathlib
import sys
from importlib import metadata

import explain_inputs as shared
import jax
import jax.numpy as jnp
import numpy as np
from model_cases import CLASSES
from packed import made_sessions
from step_timing import peak_of_process, reset_peak, resident, time_calls

from xai_traffic import explain
from xai_traffic.capture.images import filled_tiles, images_of
from xai_traffic.data.store import open_dataset
from xai_traffic.models import Model, build
from xai_traffic.training.run import load_run

VARIANTS = {
    "paper": {"xception": "seed", "vgg19": "seed", "vit": "s"},
    "cpu": {"xception": "cpu", "vgg19": "cpu", "vit": "cpu"},
    "debug": {"xception": "debug", "vgg19": "debug", "vit": "debug"},
}
"""Of each size, by family."""

RISE = 10.0
"""Mean rise of the explained logit that random weights are scaled to, in logits."""

HEADS = {"xception": "predictions", "vgg19": "predictions", "vit": "head"}
TRIED = (8, 16, 32, 64, 128)
"""Batches of which the best tells how many images a second the network judges."""

SAMPLES = 512
"""Masks of RISE and Kernel SHAP, an example."""


def prepare(folder: pathlib.Path, name: str, size: str, sessions: int, seed: int, *rest) -> dict:
    """Write a network, weights, sessions and targets."""
    data, run = (*rest, None, None)[:2]
    rng = np.random.Generator(np.random.Philox(seed))
    if data:
        dataset = open_dataset(data)
        images = dataset.images(rng.permutation(dataset.rows("test"))[:sessions])
    else:
        made = made_sessions(sessions, 3.5, seed)
        images = images_of(made.tiles, made.first_tiles, made.tile_counts)
    if run:
        loaded = load_run(run)
        model, variables, weights = loaded.model, loaded.variables, "trained"
    else:
        options = {"mask_empty": True, "zero_head": False} if name == "vit" else {}
        classes = CLASSES
        model = build(name, classes, variant=VARIANTS[size][name], **options)
        variables, weights = jax.device_get(model.init(jax.random.key(seed))), "random"
    x = np.float32(images[..., None])
    logits = np.asarray(jax.jit(model.logits)(variables, x))
    target = logits.argmax(-1)
    if not run:
        low = np.asarray(jax.jit(model.logits)(variables, np.where(x > 0, shared.LEAST, 0.0)))
        rise = np.abs(logits - low)[np.arange(len(x)), target].mean()
        head = variables["params"][HEADS[name]]
        factor = np.float32(RISE / rise)
        head["kernel"] = head["kernel"] * factor
        logits = np.asarray(jax.jit(model.logits)(variables, x))
        target = logits.argmax(-1)
    flat = {
        "/".join(part.key for part in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    module = model.module
    skipped = ("parent", "name")
    fields = {
        field.name: getattr(module, field.name)
        for field in dataclasses.fields(module)
        if field.name not in skipped
    }
    about = {"family": name, "variant": model.variant, "fields": fields, "weights": weights}
    shared.write(
        *(folder, name, about, flat),
        {"images": images, "target": target.astype(np.int32), "logits": logits},
    )
    packets = filled_tiles(images, model.packets)
    return {"weights": weights, "variant": model.variant, "packets": float(packets.mean())}


def load(folder: pathlib.Path, name: str) -> tuple[Model, dict, jax.Array, jax.Array]:
    """Return the network, its variables, images [B, 128, 128, 1] and targets."""
    about, flat, inputs = shared.read(folder, name)
    fields = dict(about["fields"])
    classes, channels = fields.pop("num_classes"), fields.pop("channels")
    dtype = fields.pop("dtype")
    model = build(
        *(name, classes), variant=about["variant"], channels=channels, dtype=dtype, **fields
    )
    variables: dict = {}
    for path, value in flat.items():
        *places, leaf = path.split("/")
        at = variables
        for place in places:
            at = at.setdefault(place, {})
        at[leaf] = jnp.asarray(value)
    x = jnp.asarray(inputs["images"][..., None], jnp.float32)
    return model, variables, x, jnp.asarray(inputs["target"])


def integrated_gradients(case: str, folder: pathlib.Path, name: str, repeats: int) -> dict:
    """Time Integrated Gradients, as `Run.explain` calls them."""
    model, variables, x, target = load(folder, name)
    options = {"steps": shared.STEPS} if case == "fixed" else {"tolerance": shared.TOLERANCE}

    def call() -> explain.Attribution:
        found = explain.attribute(
            *("integrated_gradients", model.apply, variables, x, target),
            extents=model.extents,
            **options,
        )
        return jax.block_until_ready((found.attributions, found.completeness_error))

    timed = time_calls(call, repeats)
    maps, error = (np.asarray(part) for part in timed.pop("last"))
    logits = jax.jit(model.logits)
    rise = np.asarray(logits(variables, x) - logits(variables, explain.empty_packets(x)[:, 0]))
    rise = rise[np.arange(len(x)), np.asarray(target)]
    made = {"error": shared.median_error(error, rise)}
    if case == "tolerance":
        (folder / f"{name}-ours.json").write_text(json.dumps(made), "utf-8")
    theirs = folder / f"{name}-{case}-peer.npy"
    if theirs.exists():
        peer = np.load(theirs)
        made["apart"] = float(np.abs(maps - peer).max() / np.abs(peer).max())
    return {**timed, "sessions": len(x), **made}


def grad_cam(folder: pathlib.Path, name: str, repeats: int) -> dict:
    """Time Grad-CAM, and the network alone on the same batch."""
    model, variables, x, target = load(folder, name)
    judge = jax.jit(model.logits)

    def maps() -> jax.Array:
        found = explain.grad_cam(model.apply, variables, x, target, extent=model.extent)
        return found.block_until_ready()

    timed = time_calls(maps, repeats)
    alone = time_calls(lambda: judge(variables, x).block_until_ready(), repeats)
    timed.pop("last")
    more = {"forward": alone["seconds"], "forward_busy": alone["busy"]}
    return {**timed, "sessions": len(x), **more}


def rates(folder: pathlib.Path, name: str, repeats: int) -> dict:
    """Time methods that judge masked images, and the network alone at its best batch."""
    model, variables, x, target = load(folder, name)
    judge = jax.jit(model.logits)
    most = max(TRIED) if model.packets < 64 else 64
    full = jnp.tile(x, (-(-most // len(x)), 1, 1, 1))
    best: dict = {}
    for batch in (size for size in TRIED if size <= most):
        times = max(1, most // batch)

        def all_of_it(batch=batch, times=times) -> None:
            for at in range(times):
                judge(variables, full[at * batch : (at + 1) * batch]).block_until_ready()

        timed = time_calls(all_of_it, repeats)
        timed = {key: timed[key] / (times * batch) for key in ("seconds", "busy")}
        if not best or timed["busy"] < best["busy"]:
            best = {**timed, "batch": batch}
    counts = np.maximum(filled_tiles(np.asarray(x), model.packets), 1)
    lengths = [[256] * count for count in counts]
    packets = np.stack([explain.packet_groups(own) for own in lengths])
    windows = np.stack([explain.window_groups(own, 16)[0] for own in lengths])
    places = (model.apply, variables, x)
    maps = np.asarray(explain.gradient_x_input(*places, target))
    exact = sum(min(2**count, SAMPLES + 2) for count in counts.tolist())
    orders, shares = 39, 4
    calls = {
        "occlusion": (
            lambda: explain.occlusion(*places, windows, target),
            int(sum(16 * count + 1 for count in counts)),
        ),
        "rise": (
            lambda: explain.rise(*places, packets, target, samples=SAMPLES),
            SAMPLES * len(x),
        ),
        "kernel_shap": (
            lambda: explain.kernel_shap(*places, packets, target, samples=SAMPLES),
            exact,
        ),
        "faithfulness": (
            lambda: explain.faithfulness(*places, windows, [maps], target, orders=orders),
            2 * shares * (1 + orders) * len(x),
        ),
    }
    found = {}
    for method, (call, images) in calls.items():
        timed = time_calls(call, repeats)
        found[method] = {"images": images} | {
            f"share_{key}": best[key] * images / timed[key] for key in ("seconds", "busy")
        }
    # The rate itself is taken again: on a busy machine it drifts.
    return {"seconds": best["seconds"], "best": best, "methods": found, "images": 1}


def memory(folder: pathlib.Path, name: str, method: str, budget: int) -> dict:
    """Measure by how much a method lifts the peak above that of a process that judged one image."""
    model, variables, x, target = load(folder, name)
    x, target = (jnp.concatenate([array] * -(-64 // len(array)))[:64] for array in (x, target))
    jax.jit(model.logits)(variables, x[:1]).block_until_ready()
    counts = np.maximum(filled_tiles(np.asarray(x), model.packets), 1)
    groups = np.stack([explain.packet_groups([256] * count) for count in counts])
    places, common = (model.apply, variables, x), {"memory_budget": budget}
    calls = {
        "integrated_gradients": lambda: explain.integrated_gradients(
            *places, target, steps=8, baselines=explain.empty_packets(x), **common
        ),
        "grad_cam": lambda: explain.grad_cam(*places, target, extent=model.extent, **common),
        "occlusion": lambda: explain.occlusion(*places, groups, target, **common),
    }
    trim = ctypes.CDLL("libc.so.6").malloc_trim
    measured = []
    for _ in range(2):  # the second finds everything compiled
        trim(0)
        reset_peak()
        before = resident()
        timed = time_calls(lambda: jax.block_until_ready(calls[method]()), 1, warm=False)
        timed.pop("last")
        measured.append(peak_of_process() - before)
    return {**timed, "lift": measured[1], "lift_compiling": measured[0], "budget": budget}


def main() -> None:
    """Run what the command line asks for."""
    case, folder, name, *rest = sys.argv[1:]
    folder = pathlib.Path(folder)
    if case == "prepare":
        size, sessions, seed, *more = rest
        print(json.dumps(prepare(folder, name, size, int(sessions), int(seed), *more)), flush=True)
        return
    if case == "memory":
        made = memory(folder, name, rest[0], int(rest[1]))
    elif case == "grad_cam":
        made = grad_cam(folder, name, int(rest[0]))
    elif case == "rates":
        made = rates(folder, name, int(rest[0]))
    else:
        made = integrated_gradients(case, folder, name, int(rest[0]))
    made |= {"peak": peak_of_process(), "version": f"jax {metadata.version('jax')}"}
    print(json.dumps(made), flush=True)


if __name__ == "__main__":
    main()
