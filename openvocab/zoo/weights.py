"""Weights of published models: fetched once, compared with what was fetched first, and converted once."""

import json
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from openvocab.checkpoint.checkpoint import load_state_dict
from openvocab.checkpoint.hub import hub_file
from openvocab.checkpoint.published import save_published
from openvocab.checkpoint.seal import digest_of
from openvocab.clip.open_clip_model import tag_file
from openvocab.converters import CONVERTERS
from openvocab.converters.clip_text import text_tower
from openvocab.files.atomic_files import replacing
from openvocab.zoo.cache import hand_file, read_record, record_file
from openvocab.zoo.models import ZooModel

logger = logging.getLogger(__name__)


def prepare_weights(model: ZooModel, accept_license: bool = False) -> Path | None:
    """Return the weights of a published model, in our layout.

    The file is fetched into the hub's cache, and converted into ours. At the first use its SHA-256 is recorded, and its
    license logged; afterwards, a file with other content is an error.

    Args:
        model: the model.
        accept_license: for weights whose license does not simply allow commercial use: the user has read it. Once
            given, it is recorded.

    Returns:
        A file of weights of the whole model; None if the towers of the model load their weights themselves.

    Raises:
        ImportError: the model needs transformers, which is not installed.
        PermissionError: `accept_license` is needed, or the repository is gated.
        FileNotFoundError: the weights cannot be fetched; the message says which file to put where.
        ValueError: the file is not the one that was recorded, or does not fit the layout.
    """
    if model.tag is None and model.converter is None and find_spec("transformers") is None:
        # before the download
        raise ImportError(f"{model.name} is a model of transformers; pip install 'openvocab[hf]'")
    record: Mapping[str, Any] = read_record(model)
    _check_license(model, accept_license, record)
    source = _source(model)
    record = _compared(model, source, record)
    if model.converter is None:
        return None
    converted = record_file(model).with_name(f"{model.name}-{record['sha256'][:16]}.safetensors")
    if not converted.is_file():
        state = CONVERTERS[model.converter](load_state_dict(source))
        if model.text_tower is not None:
            state |= text_tower(load_state_dict(tag_path(model.text_tower)))
        save_published(state, {}, converted)
    return converted


def _check_license(model: ZooModel, accept_license: bool, record: Mapping[str, Any]) -> None:
    """Log the license at the first use.

    Raises:
        PermissionError: it has to be accepted.
    """
    known = record.get("license") == model.license
    if not model.commercial and not (known or accept_license):
        page = f" at https://huggingface.co/{model.hub.partition('@')[0]}" if model.hub is not None else ""
        raise PermissionError(
            f"{model.name}: the license of the weights, {model.license}, restricts commercial use; read it{page}, and "
            "pass accept_license=True (--accept-license)"
        )
    if not known:
        logger.warning(f"{model.name}: the license of the weights is {model.license}")


def _source(model: ZooModel) -> Path:
    """Return the file as it is published."""
    if model.tag is not None:
        return tag_path(model.tag)
    if model.hub is not None:
        return hub_file(model.hub, model.files)
    path = hand_file(model)
    if not path.is_file():
        raise FileNotFoundError(
            f"{model.name}: its weights are not on a hub; download {model.file} from {model.by_hand}, and put it at "
            f"{path}"
        )
    return path


def tag_path(name: str) -> Path:
    """Return the file of MODEL/TAG of open_clip; see `tag_file`."""
    architecture, _, tag = name.rpartition("/")
    return Path(tag_file(architecture, tag))


def _compared(model: ZooModel, source: Path, record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record of a file, made at the first use.

    Raises:
        ValueError: the file has changed since then.
    """
    status = source.stat()
    seen = {"file": str(source), "size": status.st_size, "modified": status.st_mtime_ns}
    if record.get("license") == model.license and all(record.get(key) == value for key, value in seen.items()):
        return record
    digest = _digest(source)
    if record.get("sha256", digest) != digest:
        raise ValueError(
            f"{model.name}: {source} is not the file of the first use (SHA-256 {digest[:16]}..., then "
            f"{record['sha256'][:16]}...); if its publisher has replaced it, delete {record_file(model)}"
        )
    made = {"sha256": digest, **seen, "license": model.license, "source": model.tag or model.hub or model.by_hand}
    record_file(model).parent.mkdir(parents=True, exist_ok=True)
    with replacing(record_file(model)) as file:
        json.dump(made, file, indent=1)
    return made


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return digest_of(file, None)
