"""Xception: depthwise-separable convolutions over the packet grid.

Words: binary|multiclass, a mask (`none`, `header`, `addresses+ports`, ...), seed|best, and a size:
cpu (two cores), small (cpu for all packets), full (the study's), demo, debug.
"""

import ml_collections

from xai_traffic.training.recipe import base, locked, read_words, shrink_to_debug

SIZES = {"cpu": "cpu", "small": "small", "full": "seed", "demo": "demo", "debug": "debug"}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    words = read_words(arg, SIZES, size="cpu")
    config = base(words)
    config.model.name = "xception"
    config.model.variant = SIZES[words.size]
    if words.recipe == "seed":
        config.model.channels = 3
    else:
        config.batch_size = 64
        config.epochs = 12
        config.optimizer.learning_rate = 2e-3
        config.optimizer.weight_decay = 0.5
        config.optimizer.ema = 0.998
        config.early_stopping.metric = "loss"
        config.augment.byte_swap = 0.1
        config.augment.header_dropout = 0.05
        config.augment.payload_dropout = 0.99
    if words.size == "demo":
        config.batch_size = 32
        config.epochs = 12
        config.optimizer.ema = 0.9
        config.augment.byte_swap = 0.0
        config.augment.payload_dropout = 0.0  # what the lab plants lies in the payload
    if words.size == "debug":
        shrink_to_debug(config)
    return locked(config)
