"""Transforms for mmcv pipelines: from files to `{"image", "sample"}`.

They pass on a `Results` dict (`results.py` documents its keys), in which `img` is BGR, as in mmcv; `PackSample` returns
RGB. Each is imported when its name is used.
"""

from openvocab.lazy_names import lazy_names, registered_in

__all__, __getattr__, __dir__ = lazy_names(__name__, registered_in(__name__, __path__))
