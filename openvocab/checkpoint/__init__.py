"""Checkpoints: written atomically, checked, read from any program, and never able to run code."""

from openvocab.lazy_names import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__, {".checkpoint": ["SaveFailed", "load_checkpoint", "load_state_dict", "save_checkpoint"]}
)
