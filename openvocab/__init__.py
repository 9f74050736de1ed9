"""openvocab: open-vocabulary dense prediction with one shared CLIP backbone and pluggable heads."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openvocab.inference.predictor import Predictor, load
    from openvocab.text.vocabulary import Vocabulary

__all__ = ["Predictor", "Vocabulary", "__version__", "load"]
__version__ = "0.1.0"

_HOMES = {
    "Predictor": "openvocab.inference.predictor",
    "load": "openvocab.inference.predictor",
    "Vocabulary": "openvocab.text.vocabulary",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used, so that `import openvocab` itself stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'openvocab' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
