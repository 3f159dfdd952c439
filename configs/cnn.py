"""The small CNNs of the USTC-TFC2016 line of work, to compare with: 784 bytes of a session.

Words: binary|multiclass, a mask (`none`, `header`, `addresses+ports`, ...), seed|best, and a size:
28x28 (two-dimensional; also called full), 1d, debug. A dataset of layout ustc28 needs
`model.options.strung=False`.
"""

import ml_collections

from xai_traffic.training.recipe import base, locked, read_words, shrink_to_debug

SIZES = {"28x28": "28x28", "1d": "1d", "full": "28x28", "debug": "debug"}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    words = read_words(arg, SIZES, size="28x28")
    config = base(words)
    config.model.name = "cnn"
    config.model.variant = SIZES[words.size]
    if words.recipe == "best":
        config.epochs = 12
        config.optimizer.weight_decay = 0.5
        # Half of its dense layer is dropped already: bytes lost on top of that cost it 3 points.
        for name in ("byte_swap", "header_dropout", "payload_dropout"):
            config.augment[name] = 0.0
    if words.size == "debug":
        shrink_to_debug(config)
    return locked(config)
