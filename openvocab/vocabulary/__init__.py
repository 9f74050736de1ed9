"""Vocabularies, and the class lists that come with the package."""

from openvocab.lazy_names import lazy_names

__all__, __getattr__, __dir__ = lazy_names(__name__, {".vocabulary": ["Vocabulary", "read_class_names"]})
