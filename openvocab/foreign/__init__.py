"""Models of Hugging Face's transformers as models of this library; a module is imported when its name is first used."""

from openvocab.lazy_names import lazy_names, registered_in

__all__, __getattr__, __dir__ = lazy_names(__name__, registered_in(__name__, __path__))
