"""Where the weights of published models are on this machine."""

from pathlib import Path
from typing import Any

from openvocab.files.text_files import read_json
from openvocab.files.user_cache import cache_folder
from openvocab.zoo.models import ZooModel


def record_file(model: ZooModel) -> Path:
    """Return the path of the record that is made when the weights of a model are first used."""
    return cache_folder() / "zoo" / f"{model.name}.json"


def read_record(model: ZooModel) -> dict[str, Any]:
    """Return the record of a model's weights; {} before their first use."""
    path = record_file(model)
    return read_json(path) if path.is_file() else {}


def hand_file(model: ZooModel) -> Path:
    """Return the path at which a file is expected that no program may fetch."""
    return cache_folder() / "zoo" / model.name / str(model.file)


def fetched_file(model: ZooModel) -> Path | None:
    """Return the file of a model's weights as it was published, if it has been fetched and is still there."""
    path = Path(read_record(model).get("file", "")) if model.by_hand is None else hand_file(model)
    return path if path.is_file() else None
