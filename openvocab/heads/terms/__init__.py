"""The losses that a `ContrastiveHead` adds up, each imported when its name is used."""

from openvocab.lazy_names import lazy_names, registered_in

__all__, __getattr__, __dir__ = lazy_names(
    __name__, {".base": ["ContrastiveTerm", "PairBatch"]} | registered_in(__name__, __path__)
)
