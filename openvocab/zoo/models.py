"""The list of published models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from openvocab.config.options import parse_value
from openvocab.files.text_files import read_yaml

MODELS_FILE = Path(__file__).parent / "models.yaml"


@dataclass(frozen=True)
class ZooModel:
    """A published model; the file `models.yaml` says what the fields are. One of `tag`, `hub` and `by_hand` is set."""

    name: str
    what: str
    task: str
    config: str
    license: str
    commercial: bool
    published: str
    ours: str
    megabytes: int | None = None
    computed_megabytes: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    tag: str | None = None
    hub: str | None = None
    files: tuple[str, ...] = ()
    by_hand: str | None = None
    file: str | None = None
    converter: str | None = None
    text_tower: str | None = None


def zoo_models() -> tuple[ZooModel, ...]:
    """Return all published models, in the order of the file."""
    return tuple(_models(MODELS_FILE).values())


def find_model(name: str) -> ZooModel | None:
    """Return the published model of this name, None if there is none."""
    return _models(MODELS_FILE).get(name)


@cache
def _models(path: Path) -> dict[str, ZooModel]:
    """Read the list.

    Raises:
        ValueError: an entry lacks a field, has an unknown one, or not exactly one source.
    """
    return {name: _model(name, fields) for name, fields in read_yaml(path).items()}


def _model(name: str, fields: Mapping[str, Any]) -> ZooModel:
    values = {key.replace(" ", "_"): value for key, value in fields.items()}
    values["commercial"] = {"yes": True, "no": False}[values["commercial"]]
    for key in {"megabytes", "computed_megabytes"} & values.keys():
        values[key] = int(values[key])
    values["files"] = tuple(values.get("files", ()))
    values["settings"] = {key: parse_value(text) for key, text in values.get("settings", {}).items()}
    try:
        model = ZooModel(name=name, **values)
    except TypeError as error:
        raise ValueError(f"{MODELS_FILE.name}: {name}: {error}") from error
    if [model.tag, model.hub, model.by_hand].count(None) != 2:
        raise ValueError(f"{MODELS_FILE.name}: {name}: expected one of tag, hub and by hand")
    return model
