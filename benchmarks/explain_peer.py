"""Explain by captum or pytorch-grad-cam and print the time as a line of JSON.

    PEERS/captum/bin/python benchmarks/explain_peer.py CASE FOLDER MODEL THREADS REPEATS
    PEERS/captum/bin/python benchmarks/explain_peer.py version

Started by explain.py with the Python of the peers, which lacks xai_traffic. CASE is `fixed`,
`tolerance` or `grad_cam`. How many steps and examples in a call are best is found first and kept in
FOLDER; it is not timed.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import warnings

# Threads that spin while they wait lose several times over as soon as a core is shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import captum
import explain_inputs as shared
import explain_torch_models
import numpy as np
import torch
from captum.attr import IntegratedGradients
from step_timing import peak_of_process, time_calls


def main() -> None:
    """Run what the command line asks for."""
    version = f"captum {captum.__version__}, torch {torch.__version__}"
    if sys.argv[1] == "version":
        print(json.dumps({"version": version}))
        return
    warnings.simplefilter("ignore")
    case, folder, name, threads, repeats = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    folder, repeats = pathlib.Path(folder), int(repeats)
    about, weights, inputs = shared.read(folder, name)
    model = explain_torch_models.build(about["fields"], weights, about["family"])
    x = torch.tensor(inputs["images"])[:, None].float()
    target = torch.tensor(inputs["target"]).long()
    if case == "grad_cam":
        made = grad_cam(model, about["family"], x, target, repeats)
    else:
        made = integrated_gradients(case, model, x, target, folder / f"{name}-found.json", repeats)
        np.save(folder / f"{name}-{case}-peer.npy", made.pop("maps"))
    with torch.no_grad():
        logits = model(x).numpy()
    apart = float(np.abs(logits - inputs["logits"]).max() / np.abs(inputs["logits"]).max())
    common = {"logits_apart": apart, "peak": peak_of_process(), "version": version}
    print(json.dumps({**made, "sessions": len(x), **common}), flush=True)


def integrated_gradients(case, model, x, target, kept: pathlib.Path, repeats: int) -> dict:
    """Time captum with the steps of the case and the best number of examples in a call."""
    ours = kept.with_name(kept.name.replace("found", "ours"))
    wanted = shared.TOLERANCE
    if ours.exists():
        wanted = max(wanted, json.loads(ours.read_text("utf-8"))["error"])
    explainer = IntegratedGradients(model)
    baseline = torch.where(x > 0, shared.LEAST, 0.0)
    with torch.no_grad():
        rows = torch.arange(len(x))
        rise = (model(x)[rows, target] - model(baseline)[rows, target]).numpy()

    def explain(steps: int, at_once: int) -> tuple[torch.Tensor, torch.Tensor]:
        return explainer.attribute(
            x,
            baseline,
            target=target,
            n_steps=steps,
            method="gausslegendre",
            internal_batch_size=at_once,
            return_convergence_delta=True,
        )

    found = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    if "at_once" not in found:
        spent = {}
        for at_once in (size for size in shared.BATCHES if size >= len(x)):
            steps = max(2, shared.BATCHES[-2] // len(x), at_once // len(x))
            timed = time_calls(lambda n=steps, k=at_once: explain(n, k), 1)
            spent[at_once] = timed["busy"] / steps
        found["at_once"] = min(spent, key=spent.get)
    at_once = found["at_once"]
    if case == "tolerance" and "steps" not in found:
        for steps in shared.LADDER:
            error = shared.median_error(explain(steps, at_once)[1].numpy(), rise)
            found["steps"] = steps
            if error <= wanted:
                break
    kept.write_text(json.dumps(found), "utf-8")
    steps = found["steps"] if case == "tolerance" else shared.STEPS
    explain(max(2, at_once // len(x)), at_once)  # what is made at the first call
    timed = time_calls(lambda: explain(steps, at_once), repeats, warm=False)
    maps, error = timed.pop("last")
    made = {"steps": steps, "at_once": at_once, "error": shared.median_error(error.numpy(), rise)}
    return {**timed, **made, "maps": maps[:, 0].numpy()}


def grad_cam(model, family: str, x, target, repeats: int) -> dict:
    """Time pytorch-grad-cam beside the network alone."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model.requires_grad_(True)  # it looks for gradients at its hooks

    def as_grid(tokens: torch.Tensor) -> torch.Tensor:
        side = int(tokens.shape[1] ** 0.5)
        grid = tokens[:, 1:].transpose(1, 2)
        rows = side if side * side == tokens.shape[1] - 1 else 1
        return grid.reshape(*grid.shape[:2], rows, -1)

    targets = [ClassifierOutputTarget(int(one)) for one in target]
    reshape = as_grid if family == "vit" else None
    with GradCAM(model, [model.last], reshape_transform=reshape) as explainer:
        timed = time_calls(lambda: explainer(x, targets), repeats)
    timed.pop("last")

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return model(x)

    alone = time_calls(forward, repeats)
    return {**timed, "forward": alone["seconds"], "forward_busy": alone["busy"]}


if __name__ == "__main__":
    main()
