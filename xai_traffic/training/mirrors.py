"""Mirrors of the log: services that are sent, while a run trains, what its folder holds.

A mirror begins with `config.json` and the rows of metrics.csv up to the restored step, leaves out
those that the service has, and is then told what comes. So it is whole whenever it was switched on
and however often the training was interrupted; and what fails in it costs the training nothing.
Bytes of captures are never sent.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import os
import pathlib
import secrets
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from xai_traffic.errors import ConfigError
from xai_traffic.terminal import log, printable

PROJECT = "xai-traffic"
"""Of Weights & Biases, unless WANDB_PROJECT names another."""


class WandbMirror:
    """Mirror a run to Weights & Biases, or into the run's folder where WANDB_MODE is offline.

    Entity, project, mode and the like come from W&B's own environment variables. The id of W&B's
    run is kept in the run's folder, so that an interrupted run goes on as the same one. W&B takes
    no row back: what it was sent behind the restored step stands, and is not sent again. An
    offline copy is written anew at each start, from the first row on, and replaces the one before.

    W&B's own step counts up two a step of the training, the second for what follows validation:
    between the two a training may be interrupted. Its charts are drawn over `step`.

    Args:
        run: the run's folder.
        config: of the run, nested.

    Raises:
        wandb.Error: W&B cannot even write into the folder.
    """

    def __init__(self, run: pathlib.Path, config: Mapping[str, Any]):
        import wandb

        self._wandb, self._done = wandb, False
        folder = (run / "wandb").resolve()
        folder.mkdir(exist_ok=True)
        options = {
            "project": os.environ.get("WANDB_PROJECT", PROJECT),
            "name": run.name,
            "id": _kept_id(folder / "id"),
            "dir": folder.parent,
            "config": config,
            # Standard output is for results.
            "settings": wandb.Settings(console="off", quiet=True),
        }
        if wandb.setup().settings.mode in ("offline", "disabled"):
            self._run = wandb.init(**options)
        else:
            try:
                self._run = wandb.init(**options, resume="allow")
            except wandb.Error as error:
                log.warning(
                    "W&B: %s: written to %s instead, `wandb sync` sends it",
                    printable(error),
                    printable(folder),
                )
                self._run = wandb.init(**options, mode="offline")
        for name, best in (("loss", "min"), ("accuracy", "max"), ("macro_f1", "max")):
            self._run.define_metric(f"validation/{name}", step_metric="step", summary=best)
        self._run.define_metric("*", step_metric="step")
        for earlier in folder.glob("offline-run-*"):
            if earlier != pathlib.Path(self._run.dir).resolve().parent:
                shutil.rmtree(earlier)  # all of it is in metrics.csv

    def scores(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Send numbers by tag."""
        self._send(step, {"epoch": epoch, **values})

    def picture(self, tag: str, data: bytes, step: int) -> None:
        """Send a PNG."""
        from PIL import Image

        self._send(step, {tag: self._wandb.Image(Image.open(io.BytesIO(data)))})

    def _send(self, step: int, values: Mapping[str, Any]) -> None:
        row = 2 * step + any(tag.startswith("validation/") for tag in values)
        if row >= self._run.starting_step:
            self._run.log({"step": step, **values}, step=row)

    def finished(self, step: int) -> None:
        """Mark the run as done."""
        self._done = True

    def close(self) -> None:
        """Send what is left; a run that is not done is marked so."""
        self._run.finish(exit_code=0 if self._done else 1)


MIRRORS: dict[str, Callable[[pathlib.Path, Mapping[str, Any]], Any]] = {"wandb": WandbMirror}
"""By the name in `log.mirrors`, which is the name of the package and of the extra too."""


class Mirrors:
    """All mirrors that a run's config names, each left out from where it fails.

    Args:
        run: the run's folder; mirrors begin with what stands in it.
    """

    def __init__(self, run: pathlib.Path):
        self._open: dict[str, Any] = {}
        path = run / "config.json"
        if not path.exists():
            return
        config = json.loads(path.read_text("utf-8"))
        for name in mirror_names(config["log"].get("mirrors", "")):
            with self._watch(name):
                self._open[name] = MIRRORS[name](run, config)
        for row in _rows(run / "metrics.csv") if self._open else ():
            step, epoch = int(row.pop("step")), int(row.pop("epoch"))
            self.scores(step, epoch, {tag: float(value) for tag, value in row.items() if value})

    def scores(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Send numbers by tag."""
        self._tell("scores", step, epoch, values)

    def picture(self, tag: str, data: bytes, step: int) -> None:
        """Send a PNG."""
        self._tell("picture", tag, data, step)

    def finished(self, step: int) -> None:
        """Mark the run as done."""
        self._tell("finished", step)

    def close(self) -> None:
        """Send what is left."""
        self._tell("close")
        self._open.clear()

    def _tell(self, method: str, *arguments: Any) -> None:
        for name, mirror in list(self._open.items()):
            with self._watch(name):
                getattr(mirror, method)(*arguments)

    @contextlib.contextmanager
    def _watch(self, name: str):
        try:
            yield
        except Exception as error:  # whatever it is: a training of days must not end by it
            self._open.pop(name, None)
            log.warning(
                "the mirror %s failed and is left out until the next start: %s",
                name,
                printable(error),
            )


def mirror_names(text: str) -> list[str]:
    """Return the names in `log.mirrors`, which commas part."""
    return [name.strip() for name in text.split(",") if name.strip()]


def check_mirrors(text: str) -> None:
    """Refuse mirrors that are unknown or whose package is missing.

    Args:
        text: `log.mirrors`.

    Raises:
        ConfigError: the message names the extra to install.
    """
    for name in mirror_names(text):
        if name not in MIRRORS:
            raise ConfigError(f"log.mirrors is {text!r}: choose of {', '.join(MIRRORS)}")
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"log.mirrors is {text!r} and the package {name} is not installed: "
                f"pip install '.[{name}]' in the source of xai-traffic"
            )


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _kept_id(path: pathlib.Path) -> str:
    if not path.exists():
        path.write_text(secrets.token_hex(8), encoding="utf-8")
    return path.read_text("utf-8")
