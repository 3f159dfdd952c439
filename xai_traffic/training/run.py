"""A trained run, ready to use: its model, its parameters, and the way it reads captures."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import SingleDeviceSharding
from scipy.special import softmax

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import Sessions, read_capture_by
from xai_traffic.errors import ConfigError, RunError
from xai_traffic.explain import METHODS, attribute
from xai_traffic.models import Model, build
from xai_traffic.parallel.compilation import use_compilation_cache
from xai_traffic.parallel.sharding import shapes_at
from xai_traffic.terminal import log, printable
from xai_traffic.training.calibration import Calibration, read_calibration
from xai_traffic.training.checkpoint import Checkpoints
from xai_traffic.training.default_run import run_folder
from xai_traffic.training.exported import VARIABLES, read_variables
from xai_traffic.training.inference import compile_features, compile_judge, judge_images, warm_up
from xai_traffic.training.state import count_parameters, params_sha256

CONFIG, READING, RESULT, CHECKPOINTS = "config.json", "reading.json", "result.json", "checkpoints"
"""What a run's folder holds, beside metrics.csv and events."""


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run that was loaded; see `load_run`.

    Args:
        path: its folder.
        config: of its training, locked.
        task: binary or multiclass.
        rules: how its dataset's captures were read; it reads others the same way.
        classes: names of its K classes, in the order of the logits.
        dataset: what `reading.json` tells of the dataset: path, and SHA-256 of its manifest.
        model: the network.
        variables: its parameters and batch statistics, float32.
        step: training step they are of.
        calibration: what `xai-traffic calibrate` found; None where it was not asked.
    """

    path: pathlib.Path
    config: ml_collections.ConfigDict
    task: str
    rules: ReadingRules
    classes: list[str]
    dataset: dict[str, Any]
    model: Model
    variables: dict[str, Any] = dataclasses.field(repr=False)
    step: int
    calibration: Calibration | None = None

    @property
    def parameter_count(self) -> int:
        """Number of trained parameters."""
        return count_parameters(self.variables)

    @functools.cached_property
    def _judge(self):
        return compile_judge(self.model)

    @functools.cached_property
    def _judge_features(self):
        return compile_features(self.model)

    def read(self, path: str | os.PathLike) -> Sessions:
        """Read a capture by the run's own rules; a warning tells why it could not be to its end.

        Raises:
            CaptureError: nothing of it can be read.
        """
        sessions = read_capture_by(path, self.rules)
        if sessions.fault:
            log.warning("%s", printable(sessions.fault))
        return sessions

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Judge images uint8 or float [N, 128, 128] or [N, 128, 128, 1]; float32 [N, K]."""
        return judge_images(self._judge, self.model, self.variables, _with_channel(images))

    def logits_and_features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits float32 [N, K] and penultimate activations float32 [N, D] of images."""
        images = _with_channel(images)
        return judge_images(self._judge_features, self.model, self.variables, images)

    def warm_up(self, *, features: bool = False) -> None:
        """Compile what `logits`, or `logits_and_features`, runs for any number of images."""
        judge = self._judge_features if features else self._judge
        warm_up(judge, self.model, self.variables)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return the probabilities of the classes, float32 [N, K]; images as `logits` takes.

        They are calibrated where the run is.
        """
        return self.probabilities(self.logits(images))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return what `predict` does, of logits float32 [N, K]."""
        if self.calibration is not None:
            return self.calibration.probabilities(logits)
        return softmax(logits, axis=-1)

    def explain(
        self,
        images: np.ndarray,
        method: str = "integrated_gradients",
        target: int | np.ndarray | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Say what each image's logit rests on, on the very input that the model was trained on.

        Args:
            images: as `logits` takes.
            method: one of `xai_traffic.explain.METHODS`.
            target: class to explain, int or int32 [N]; None explains the verdict.
            **options: handed to the method.

        Returns:
            float32 [N, 128, 128].

        Raises:
            RunError: the method is unknown, or cannot explain this model.
        """
        if method not in METHODS:
            raise RunError(f"method {method!r} is unknown: choose one of {', '.join(METHODS)}")
        images = _with_channel(images)
        if not len(images):
            return np.zeros(images.shape[:3], np.float32)
        if target is None:
            target = np.argmax(self.logits(images), axis=-1).astype(np.int32)
        try:
            found = attribute(
                method,
                self.model.apply,
                self.variables,
                jnp.asarray(images, jnp.float32),
                target,
                extent=self.model.extent,
                extents=self.model.extents,
                **options,
            )
        except ValueError as error:
            raise RunError(f"{method} cannot explain {self.model.name}: {error}") from error
        return np.asarray(found.attributions, np.float32)


def load_run(
    path: str | os.PathLike, *, community_id_seed: int | None = None, calibrated: bool = True
) -> Run:
    """Load the best checkpoint of a run, finished or not, or the parameters that were exported.

    Args:
        path: folder of the run; "default" is the run that comes with the package, unless there is
            a folder of that name.
        community_id_seed: 0..65535, for the Community IDs of what the run reads; by default its
            dataset's.
        calibrated: whether to load its calibration, if there is one.

    Raises:
        RunError: the folder is no run, has no checkpoint yet, or has a calibration of other
            parameters.
    """
    path = run_folder(path)
    config = read_config(path)
    reading = read_reading(path)
    rules = _rules(path, reading)
    if community_id_seed is not None:
        rules = dataclasses.replace(rules, community_id_seed=community_id_seed)
    use_compilation_cache(config.compilation_cache)  # before anything compiles: JAX asks once
    model = build_model(config, len(reading["classes"]))
    like = jax.eval_shape(model.init, jax.random.key(0))
    step, variables = _variables(path, config, like)
    calibration = read_calibration(path) if calibrated else None
    if calibration is not None:
        calibration.check(params_sha256(variables), reading["dataset"]["manifest_sha256"], path)
    return Run(
        path=path,
        config=config,
        task=reading["task"],
        rules=rules,
        classes=list(reading["classes"]),
        dataset=reading["dataset"],
        model=model,
        variables=variables,
        step=step,
        calibration=calibration,
    )


def _variables(
    path: pathlib.Path, config: ml_collections.ConfigDict, like: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Return the step that a run judges by, and its variables."""
    folder = path / CHECKPOINTS
    if (path / VARIABLES).exists() and not folder.is_dir():
        result = _read(path, RESULT)
        return result["best_step"], read_variables(path, like, result["best_params_sha256"])
    if not folder.is_dir():
        raise RunError(f"{path} has no checkpoint yet: let the training finish an epoch")
    with Checkpoints(folder, read_only=True) as checkpoints:
        if checkpoints.latest is None:
            raise RunError(f"{path} has no checkpoint yet: let the training finish an epoch")
        # Before the first validation nothing is best, and the newest is what there is.
        best = checkpoints.position(checkpoints.latest)["stopping"]["best_step"]
        step = best if best in checkpoints.steps else checkpoints.latest
        here = SingleDeviceSharding(jax.local_devices()[0])
        variables = checkpoints.restore_variables(
            step, shapes_at(like, here), average=bool(config.optimizer.ema)
        )
    return step, variables


def build_model(config: ml_collections.ConfigDict, classes: int) -> Model:
    """Build the model that a config describes, in the compute dtype of the device at hand."""
    dtype = config.dtype
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return build(
        config.model.name,
        classes,
        variant=config.model.variant,
        channels=config.model.channels,
        dtype=dtype,
        **config.model.options.to_dict(),
    )


def read_config(path: pathlib.Path) -> ml_collections.ConfigDict:
    """Return the config of a run's folder.

    Raises:
        RunError: the folder is no run.
    """
    return ml_collections.ConfigDict(_read(path, CONFIG)).lock()


def read_reading(path: pathlib.Path) -> dict[str, Any]:
    """Return what `reading.json` of a run's folder holds: rules, classes, task, dataset.

    Raises:
        RunError: the folder is no run.
    """
    return _read(path, READING)


def _read(path: pathlib.Path, name: str) -> dict[str, Any]:
    try:
        return json.loads((path / name).read_text("utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{path} is no run: it has no {name}. Make one with `xai-traffic train`"
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path / name} cannot be read: {error}") from error


def _rules(path: pathlib.Path, reading: dict[str, Any]) -> ReadingRules:
    try:
        return ReadingRules.from_dict(reading["rules"])
    except ConfigError as error:
        raise RunError(f"{path}: {error}, and train again") from error


def _with_channel(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[1:] != (128, 128, 1):
        raise RunError(f"images must be [N, 128, 128], and are {list(images.shape)}")
    return images
