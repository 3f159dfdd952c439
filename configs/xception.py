"""Xception: depthwise-separable convolutions over the packet grid.

Words: binary|multiclass, a mask (`none`, `header`, `addresses+ports`, ...), seed|best, and a size:
cpu (two cores), small (cpu for all packets), full (the study's), demo, debug.
"""

import ml_collections

from xai_traffic.training.recipe import base, locked, read_words, shrink_to_debug, suit_the_demo

SIZES = {"cpu": "cpu", "small": "small", "full": "seed", "demo": "demo", "debug": "debug"}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    words = read_words(arg, SIZES, size="cpu")
    config = base(words)
    config.model.name = "xception"
    config.model.variant = SIZES[words.size]
    if words.recipe == "seed":
        config.model.channels = 3
    else:
        config.epochs = 12
        config.optimizer.learning_rate = 2e-3
        config.optimizer.weight_decay = 0.5
    if words.size == "demo":
        config.epochs = 12
        suit_the_demo(config)
    if words.size == "debug":
        shrink_to_debug(config)
    return locked(config)
