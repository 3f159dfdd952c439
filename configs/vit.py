"""Vision Transformer, one token a packet.

Words: binary|multiclass, a mask (`none`, `header`, `addresses+ports`, ...), seed|best, and a size:
cpu (two cores), ti, s, b (GPU), full (the study's), small (cpu for all packets), demo, debug.
"""

import ml_collections

from xai_traffic.training.recipe import base, locked, read_words, shrink_to_debug

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
        config.batch_size = 128
        config.epochs = 20
        config.optimizer.ema = 0.995
        config.augment.byte_swap = 0.15
    if words.size == "demo":
        config.batch_size = 32
        config.epochs = 8
    if words.size == "debug":
        shrink_to_debug(config)
    return locked(config)
