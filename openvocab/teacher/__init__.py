"""CLIP embeddings of regions of the training images: computed once, cached on disk, loaded in training.

Each source of proposals is imported when its name is used.
"""

from openvocab.lazy_names import lazy_names, registered_in

__all__, __getattr__, __dir__ = lazy_names(__name__, registered_in(__name__, __path__))
