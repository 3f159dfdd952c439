"""Say where the time of a model's step goes, by kind of operation, forward and backward.

    python benchmarks/model_profile.py training xception
    python benchmarks/model_profile.py inference vit-b --dtype bfloat16 --batch 256

Runs some steps under `jax.profiler`, takes the time that each operation of the compiled program had
for itself, and adds it up by what the program's text says that it came from. A fusion counts as
what its last operation is. Prints shares in per cent; --trace DIR keeps the profiler's files for
TensorBoard.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gzip
import json
import pathlib
import re
import tempfile

import jax
from model_cases import MODELS
from model_runs import CASES

KINDS = (
    ("normalisation", r"_bn/|LayerNorm_|encoder_norm|batch_norm"),
    ("depthwise convolution", r"sepconv\d/(?!dot_general)|depthwise"),
    ("pointwise product", r"sepconv\d/dot_general"),
    ("attention", r"/attention/(?!(query|key|value|out)/)"),
    ("convolution", r"_conv\d|_residual|convolution|conv_general_dilated"),
    ("pooling", r"max_pool|reduce_window|select_and_scatter"),
    ("dense layer", r"dot_general"),
    ("activation function", r"relu|gelu|erf|max$"),
)
"""Names of kinds, and what of an operation's path tells them; the first that fits."""

STEPS = 3


def kind_of(path: str) -> str:
    """Return the kind of an operation by its path in the program, as XLA's metadata has it."""
    return next((name for name, sign in KINDS if re.search(sign, path)), "other")


def direction_of(path: str) -> str:
    """Return forward, backward or update by the path."""
    if "transpose(" in path:
        return "backward"
    return "forward" if "jvp(" in path or "apply" in path or "logits" in path else "update"


def paths_of(program: str) -> dict[str, str]:
    """Return by operation where it came from, from the text of a compiled program."""
    found = re.finditer(r"%?([\w.-]+) = [^\n]*?metadata=\{[^}\n]*op_name=\"([^\"]*)\"", program)
    return {match[1]: match[2] for match in found}


def own_times(events: list[dict]) -> collections.Counter:
    """Return by operation the microseconds that it had for itself, without those inside it."""
    spent: collections.Counter = collections.Counter()
    threads: dict[tuple, list[dict]] = {}
    for event in events:
        if event.get("ph") == "X" and "hlo_op" in event.get("args", {}):
            threads.setdefault((event["pid"], event["tid"]), []).append(event)
    for some in threads.values():
        stack: list[tuple[float, str]] = []
        for event in sorted(some, key=lambda e: (e["ts"], -e["dur"])):
            while stack and stack[-1][0] <= event["ts"]:
                stack.pop()
            if stack:
                spent[stack[-1][1]] -= event["dur"]
            name = event["args"]["hlo_op"]
            spent[name] += event["dur"]
            stack.append((event["ts"] + event["dur"], name))
    return spent


def profile(what: str, model: str, dtype: str, batch: int, folder: str) -> dict:
    """Return the shares of kinds and directions in a step's time, and the seconds of a step."""
    prepared = CASES[what](model, dtype, batch, 0)
    for _ in range(2):
        prepared.wait(prepared.step())
    with jax.profiler.trace(folder):
        for _ in range(STEPS):
            prepared.wait(prepared.step())
    (trace,) = pathlib.Path(folder).glob("plugins/profile/*/*.trace.json.gz")
    with gzip.open(trace) as file:
        spent = own_times(json.load(file)["traceEvents"])
    paths = paths_of(prepared.program().as_text())
    shares: collections.Counter = collections.Counter()
    for name, microseconds in spent.items():
        path = paths.get(name, name)
        shares[kind_of(path), direction_of(path)] += microseconds
    total = sum(shares.values())
    return {
        "what": what,
        "model": model,
        "dtype": dtype,
        "batch": batch,
        "device": jax.devices()[0].device_kind,
        "milliseconds": total / 1e3 / STEPS,
        "shares": [[*key, value / total] for key, value in shares.most_common()],
    }


def main() -> None:
    """Profile what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("training", "inference"))
    parser.add_argument("model", choices=tuple(MODELS))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--trace", help="folder for the profiler's files")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.trace or stack.enter_context(tempfile.TemporaryDirectory())
        found = profile(options.what, options.model, options.dtype, options.batch, folder)
    title = MODELS[options.model].title
    print(
        f"{title}, {options.what}, {options.dtype}, batch {options.batch}: "
        f"{found['milliseconds']:.1f} ms a step on {found['device']}, jax {jax.__version__}"
    )
    for kind, direction, share in found["shares"]:
        if share >= 0.005:
            print(f"{share:6.1%}  {kind}, {direction}")


if __name__ == "__main__":
    main()
