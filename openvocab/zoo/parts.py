"""Which head and towers a published model has, by its config, without importing any of them."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from mmengine.config import Config, ConfigDict

from openvocab.config.shipped import config_file
from openvocab.zoo.models import ZooModel


@dataclass(frozen=True)
class ModelParts:
    """Names of the parts of a model; None for a part that it does not have."""

    head: str | None
    """Name of its class, "LSegHead"."""
    image_tower: str | None
    """Name of the network as open_clip or timm calls it, or of our class."""
    text_tower: str | None
    """The same."""


def model_parts(model: ZooModel) -> ModelParts:
    """Return the parts of a published model: those of its config, with its settings."""
    return ModelParts(
        head=_class_name(_model_config(model.config), model, "head"),
        image_tower=_network(_model_config(model.config), model, "backbone"),
        text_tower=_network(_model_config(model.config), model, "text_encoder"),
    )


@cache
def _model_config(name: str) -> ConfigDict:
    return Config.fromfile(config_file(name)).model


def _class_name(config: ConfigDict, model: ZooModel, part: str) -> str | None:
    kind = _setting(config, model, part, "type")
    return None if kind is None else str(kind).rpartition(".")[2]


def _network(config: ConfigDict, model: ZooModel, part: str) -> str | None:
    return _setting(config, model, part, "model") or _class_name(config, model, part)


def _setting(config: ConfigDict, model: ZooModel, part: str, key: str) -> Any:
    # dict's method: mmengine's own would import the class that a `type` names
    return model.settings.get(f"model.{part}.{key}", dict.get(config.get(part, {}), key))
