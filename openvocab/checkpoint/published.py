"""Published models: one safetensors file of weights, whose header also holds the config of the model, as data.

The header of such a file is a dict of texts. One of them is a JSON object with what a checkpoint of ours has in `meta`.
JSON has no tuples, on which some parts insist: they are written as {"tuple": [...]}, and a dict whose keys are not all
texts, or that would look like that, as {"dict": [[key, value], ...]}.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from openvocab.checkpoint.checkpoint import SaveFailed
from openvocab.checkpoint.seal import CheckpointCorrupt
from openvocab.files.atomic_files import put_in_place, temporary_sibling
from openvocab.files.text_files import parse_json

META_KEY = "openvocab"
"""The text in the header that describes the model."""
_TUPLE, _DICT = "tuple", "dict"


def save_published(weights: Mapping[str, Tensor], meta: Mapping[str, Any], path: Path) -> None:
    """Write weights and the description of their model, completely or not at all.

    Args:
        weights: the state dict of a model.
        meta: dicts, lists, tuples, numbers, texts and None.
        path: an existing file is replaced.

    Raises:
        SaveFailed: the disk is full or cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}  # none shares memory
    header = {"format": "pt", META_KEY: json.dumps(_to_json(meta), ensure_ascii=False, allow_nan=False)}
    try:
        # within a folder, which is locked: safetensors replaces the file itself, with one that only its user can read
        with temporary_sibling(path, Path.mkdir) as folder:
            file = folder / path.name
            file.touch()
            mode = file.stat().st_mode
            save_file(tensors, file, header)
            file.chmod(mode)
            put_in_place(file, path)
    except (OSError, SafetensorError) as error:
        raise SaveFailed(f"cannot write {path}: {' '.join(str(error).split())}") from error


def read_published_meta(path: Path) -> dict[str, Any]:
    """Return what `save_published` was given as `meta`; {} for a safetensors file of another program.

    Raises:
        FileNotFoundError: no such file.
        CheckpointCorrupt: it is no safetensors file, or a truncated one.
        ValueError: its description is not JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(META_KEY, "{}")
    except SafetensorError as error:
        raise CheckpointCorrupt(f"{path} is damaged: {' '.join(str(error).split())}") from error
    meta = _from_json(parse_json(text, f"the description in {path}"))
    if not isinstance(meta, dict):
        raise ValueError(f"the description in {path} is not an object but {type(meta).__name__}")
    return meta


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        is_plain = all(isinstance(key, str) for key in value) and value.keys() not in ({_TUPLE}, {_DICT})
        pairs = [(key, _to_json(item)) for key, item in value.items()]
        return dict(pairs) if is_plain else {_DICT: [[key, item] for key, item in pairs]}
    if isinstance(value, tuple):
        return {_TUPLE: [_to_json(item) for item in value]}
    return [_to_json(item) for item in value] if isinstance(value, list) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TUPLE} and isinstance(value[_TUPLE], list):
        return tuple(_from_json(item) for item in value[_TUPLE])
    if value.keys() == {_DICT} and isinstance(value[_DICT], list):
        return dict(_pair(item) for item in value[_DICT])
    return {key: _from_json(item) for key, item in value.items()}


def _pair(item: Any) -> tuple[str | int, Any]:
    """Return a key and its value.

    Raises:
        ValueError: that is none.
    """
    if isinstance(item, list) and len(item) == 2 and isinstance(item[0], (str, int)):
        return item[0], _from_json(item[1])
    raise ValueError(f"expected a key and a value, got {str(item)[:80]}")
