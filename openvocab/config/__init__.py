"""Configs: read and checked, changed from the command line, and stored in checkpoints as data."""

from openvocab.lazy_names import lazy_names

__all__, __getattr__, __dir__ = lazy_names(__name__, {".config": ["ConfigError", "read_config"]})
