"""openvocab: open-vocabulary dense prediction with one shared CLIP backbone and pluggable heads."""

from typing import TYPE_CHECKING

from openvocab.former_names import keep_old_names
from openvocab.lazy_names import lazy_names
from openvocab.version import __version__

if TYPE_CHECKING:
    from openvocab.predictor import Predictor, load
    from openvocab.retrieval import retrieve
    from openvocab.vocabulary.vocabulary import Vocabulary

__all__ = ["Predictor", "Vocabulary", "__version__", "load", "retrieve"]

# torch is imported when the first name is used, so that `import openvocab` itself stays instant
_, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".predictor": ["Predictor", "load"],
        ".retrieval": ["retrieve"],
        ".vocabulary": ["Vocabulary"],
    },
)
keep_old_names()
