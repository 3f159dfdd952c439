"""Every config resolves to what is recorded; what is wrong fails early and says what to do."""

import json
import pathlib

import pytest

from xai_traffic.errors import ConfigError
from xai_traffic.models import variants
from xai_traffic.training.config import check_config, find_config, flatten, load_config, parse_flags

GOLDEN = pathlib.Path(__file__).parent / "golden" / "configs"
FAMILIES = {
    "vit": ("cpu", "small", "ti", "s", "b", "full", "demo", "debug"),
    "xception": ("cpu", "small", "full", "demo", "debug"),
    "vgg19": ("cpu", "small", "full", "demo", "debug"),
    "cnn": ("28x28", "1d", "full", "debug"),
}
SPECS = [
    f"{family}:{words}"
    for family, sizes in FAMILIES.items()
    for words in (
        *(f"multiclass,{size}" for size in sizes),
        "binary,none,seed",
        "binary,header,seed",
        "multiclass,none,seed",
        "multiclass,header,seed",
    )
]


@pytest.mark.parametrize("family", FAMILIES)
def test_configs_are_as_recorded(family):
    """Delete the file and run the test again to record a change that is meant."""
    found = {
        spec: dict(flatten(load_config(spec))) for spec in SPECS if spec.partition(":")[0] == family
    }
    path = GOLDEN / f"{family}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        pytest.fail(f"{path.name} was missing and has been recorded: look at it, commit it")
    assert json.loads(json.dumps(found)) == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("spec", SPECS)
def test_configs_are_sound(spec):
    config = load_config(spec, path="DATASET")
    check_config(config)
    assert config.is_locked
    assert config.model.variant in variants(config.model.name)


def test_every_field_is_commented():
    for file in ("xai_traffic/training/recipe.py",):
        text = (pathlib.Path(__file__).parents[1] / file).read_text(encoding="utf-8")
        body = text.partition("def base(")[2].partition("\ndef ")[0]
        for line in body.splitlines():
            name, found, value = line.strip().partition(" = ")
            if found and "." in name and not value.endswith("ConfigDict()"):
                assert "  # " in line or name == "data.mask", line


def test_words_choose():
    config = load_config("vit.py:binary,addresses+ports,debug")
    assert (config.task, config.data.mask) == ("binary", "addresses+ports")
    assert load_config("vit").data.mask is None
    assert load_config("vit:none").data.mask == "none"
    seed = load_config("xception:seed")
    assert (seed.batch_size, seed.epochs, seed.optimizer.name) == (256, 40, "sgd")
    assert (seed.data.class_weights, seed.model.variant) == ("balanced", "seed")
    vit = load_config("vit:seed")
    assert (vit.batch_size, vit.optimizer.weight_decay) == (64, 1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("multiklass", "'multiklass' is unknown: choose a task"),
        ("binary,multiclass", "contradict each other: name one task"),
        ("none,header", "contradict each other: name one mask"),
        ("debug,cpu", "name one size"),
    ],
)
def test_wrong_words_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        load_config(f"vit:{words}")


def test_flags_override():
    config = parse_flags(
        "configs/vit.py:multiclass,debug",
        ["--config.data.path=D", "--config.batch_size", "8", "--config.deterministic"],
    )
    assert (config.data.path, config.batch_size, config.deterministic) == ("D", 8, True)
    config = parse_flags("vit", ["--config.model.options={'dropout': 0.1}"])
    assert config.model.options.dropout == 0.1


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.optimizer.learning_rat=1", "did you mean optimizer.learning_rate"),
        ("--config.path=D", "did you mean data.path"),
        ("--config.epochs=many", "epochs"),
        ("--epochs=3", "unknown flag --epochs=3"),
        ("loose", "unknown arguments loose"),
    ],
)
def test_wrong_flags_are_refused(flag, message):
    with pytest.raises(ConfigError, match=message):
        parse_flags("vit", [flag])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.path": None}, "data.path is not set: add --config.data.path"),
        ({"batch_size": 0}, "batch_size is 0: it must be at least 1"),
        ({"seed": -1}, "seed is -1: it must be at least 0"),
        ({"dtype": "float16"}, "dtype is 'float16': choose one of auto, float32, bfloat16"),
        ({"augment.byte_dropout": 1.0}, r"augment.byte_dropout is 1.0: it must be in \[0, 1\)"),
        ({"optimizer.momentum": 0.9}, "optimizer.momentum is for sgd"),
        ({"optimizer.warmup_epochs": 99.0}, "the warm-up must end before"),
        ({"optimizer.learning_rate": 0.0}, "must be above 0"),
        ({"early_stopping.metric": "auc"}, "choose one of accuracy, macro_f1, loss"),
    ],
)
def test_contradictions_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        check_config(load_config("vit", **{"data.path": "D", **overrides}))


def test_overrides_by_short_name():
    assert load_config("vit", path=pathlib.Path("D")).data.path == "D"
    with pytest.raises(ConfigError, match="did you mean model.name or optimizer.name"):
        load_config("vit", name="x")
    with pytest.raises(ConfigError, match="batch_size cannot be 'many'"):
        load_config("vit", batch_size="many")


def test_config_files_are_found():
    assert find_config("configs/vit.py").name == "vit.py"
    assert find_config("vit") == find_config("nowhere/vit.py")
    with pytest.raises(ConfigError, match="one of cnn, vgg19, vit, xception"):
        find_config("resnet")
