"""Install xai_traffic; builds its two C parts where a compiler is at hand.

Why each dependency is here:
    jax, flax, optax, orbax-checkpoint   models, optimisers and checkpoints
    numpy                                every array on the host
    ml-collections, absl-py              configurations and their overrides by flag
    tensorboard                          event files and their viewer, without TensorFlow
    pyarrow                              the dataset's tables: Parquet, typed, time zones
    scikit-learn                         scores and the shallow baselines, the field's reference
    lightgbm                             boosted trees, ten times as fast as scikit-learn's; MIT
    scipy                                morphology of the outlined overlays, sparse systems of ROAD
    matplotlib                           plots and colour maps
    pillow                               the overlays' pictures (matplotlib needs it already)
    rich                                 progress bars and tables (flax needs it already)
    zstandard                            .zst captures (Python 3.11 has no zstd of its own)
"""

import glob
import os
import pathlib

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext


class OptionalBuild(build_ext):
    """Build the C parts with optimisation; without a compiler NumPy serves."""

    def build_extension(self, extension):
        if self.compiler.compiler_type != "msvc":
            extension.extra_compile_args += ["-O3", "-std=c11", "-fno-strict-aliasing"]
        super().build_extension(extension)


limited = [("Py_LIMITED_API", "0x030B0000")]
core = (
    []
    if os.environ.get("XAI_TRAFFIC_NO_C")
    else [
        Extension(
            "xai_traffic.capture._core",
            ["xai_traffic/capture/native/core.c"],
            depends=sorted(glob.glob("xai_traffic/capture/native/core*.h")),
            define_macros=limited,
            py_limited_api=True,
            optional=True,
        ),
        Extension(
            "xai_traffic.capture._images",
            ["xai_traffic/capture/native/images.c"],
            define_macros=limited,
            py_limited_api=True,
            optional=True,
        ),
    ]
)
wandb = ["wandb>=0.31"]  # a mirror of the log; MIT, 62 MB
test = [
    "pytest>=8",
    "pytest-timeout",
    "pytest-xdist",
    "hypothesis",
    "ruff",
    "keras>=3.5",  # parity of the CNNs at equal weights, on its JAX backend
    "dpkt>=1.9.8",  # the oracle that cores, masks and field names are held to
    "pyyaml",
    "markdown-it-py>=3",  # model cards are read back by it
    "jsonschema>=4.18",  # every line of explanations.jsonl is held to its schema
    *wandb,
]
browser = ["playwright>=1.50"]  # drives Debian's chromium, which the tests of the report click in
parity = [  # of the explanations, with other libraries; without them those tests are skipped
    "torch",
    "captum>=0.9",
    "grad-cam>=1.5.5",
    "saliency>=0.2.1",
    "shap>=0.50",
    "zennit>=0.5.1",
    "lxt>=2.1",
    "quantus>=0.6",
]
setup(
    name="xai-traffic",
    version="0.1.0",
    description="Packet captures in; explained verdicts on every session out",
    long_description=pathlib.Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["xai_traffic", "xai_traffic.*"]),
    package_data={
        "xai_traffic": ["default_model/*"],
        "xai_traffic.explain": ["README.md"],
        "xai_traffic.report": ["*.html", "*.css", "*.js", "*.json"],
    },
    data_files=[("share/xai_traffic/configs", sorted(glob.glob("configs/*.py")))],
    ext_modules=core,
    cmdclass={"build_ext": OptionalBuild},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
    entry_points={"console_scripts": ["xai-traffic = xai_traffic.__main__:command"]},
    install_requires=[
        "jax>=0.10,<0.13",
        "flax>=0.12",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.30",
        "numpy>=2.0",
        "ml-collections>=1.0",
        "absl-py>=2.0",
        "tensorboard>=2.19",
        "pyarrow>=18",
        "scikit-learn>=1.5",
        "lightgbm>=4.7",
        "scipy>=1.13",
        "matplotlib>=3.9",
        "pillow>=10.1",
        "rich>=13",
        "zstandard>=0.22",
    ],
    extras_require={
        "cuda": ["jax[cuda12]>=0.10,<0.13"],
        "tpu": ["jax[tpu]>=0.10,<0.13"],
        "wandb": wandb,
        "test": test,
        "parity": parity,
        "browser": browser,
    },
)
