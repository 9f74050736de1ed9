"""openvocab: open-vocabulary dense prediction with one shared CLIP backbone and pluggable heads."""

from typing import TYPE_CHECKING

from openvocab.lazy_names import lazy_names

if TYPE_CHECKING:
    from openvocab.inference.predictor import Predictor, load
    from openvocab.inference.retrieval import retrieve
    from openvocab.text.vocabulary import Vocabulary

__all__ = ["Predictor", "Vocabulary", "__version__", "load", "retrieve"]
__version__ = "0.1.0"

# torch is imported with the first name, so that `import openvocab` itself stays instant
_, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".inference.predictor": ["Predictor", "load"],
        ".inference.retrieval": ["retrieve"],
        ".text.vocabulary": ["Vocabulary"],
    },
)
