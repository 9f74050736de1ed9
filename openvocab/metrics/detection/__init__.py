"""Average precision of detected boxes and masks by the rules of COCO, open-vocabulary COCO and LVIS."""

from openvocab.lazy_names import lazy_names, registered_in

__all__, __getattr__, __dir__ = lazy_names(__name__, registered_in(__name__, __path__))
