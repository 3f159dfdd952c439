"""Networks as pure functions: `build(name, num_classes, variant=...)` gives a `Model`."""

from xai_traffic.models.build import build, variants
from xai_traffic.models.model import Model

__all__ = ["Model", "build", "variants"]
