"""Vision Transformer, one token a packet.

Words: binary|multiclass, a mask (`none`, `header`, `addresses+ports`, ...), seed|best, and a size:
cpu (two cores), ti, s, b (GPU), full (the study's), small (cpu for all packets), demo, debug.
"""

import ml_collections

from xai_traffic.training.recipe import (
    base,
    locked,
    product,
    read_words,
    shrink_to_debug,
    suit_the_demo,
)

SIZES = {
    "cpu": "cpu",
    "small": "small",
    "ti": "ti",
    "s": "s",
    "b": "b",
    "full": "seed",
    "demo": "small",
    "debug": "debug",
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    words = read_words(arg, SIZES, size="cpu")
    config = base(words)
    config.model.name = "vit"
    config.model.variant = SIZES[words.size]
    if words.recipe == "seed":
        config.batch_size = 64
        config.optimizer.weight_decay = 1e-4
        config.model.channels = 3
    else:
        config.epochs = 20
        config.optimizer.learning_rate = 1.5e-3
        config.optimizer.weight_decay = 1.0
    if words.size == "demo":
        config.epochs = 16
        suit_the_demo(config)
    if words.size == "debug":
        shrink_to_debug(config)
    return locked(config)


def sweep() -> list[dict]:
    """Return 18 points: how fast to learn and how much to hold back, with three seeds each."""
    return product(
        {
            "optimizer.learning_rate": (7.5e-4, 1.5e-3, 3e-3),
            "optimizer.weight_decay": (0.3, 1.0),
            "seed": range(3),
        }
    )
