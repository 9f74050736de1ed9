"""Converters of official checkpoints of other projects: pure functions `convert(state_dict) -> state_dict`."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

Converter = Callable[[Mapping[str, Any]], dict[str, Any]]


def _of(module: str) -> Converter:
    """Return the converter of a module of this package, which is imported when it is called."""

    def convert(state_dict: Mapping[str, Any]) -> dict[str, Any]:
        return import_module(f"{__name__}.{module}").convert(state_dict)

    return convert


CONVERTERS: dict[str, Converter] = {name: _of(name) for name in ("detpro", "glip", "groupvit", "lseg", "owlv2", "vild")}
"""{name in `openvocab convert`: converter}."""
