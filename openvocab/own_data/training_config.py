"""The config that trains a head on a user's data: one of the package's, with the data, a tower and a length."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from openvocab.backbones.clip import CLIPBackbone
from openvocab.clip.open_clip_model import known_models
from openvocab.config.config import read_config
from openvocab.own_data.parts import OwnData, Task
from openvocab.zoo.models import ZooModel, find_model, zoo_models

HEADS: Mapping[str, tuple[str, Task]] = {
    "lseg": ("lseg_custom", "segmentation"),
    "vild": ("vild_custom", "detection"),
}
"""The config of each head, and what it is trained for."""
LENGTH: Mapping[str, Any] = dict(passes=50, min_iters=300, max_iters=20_000, validations=8)
"""Of a config that states no `run_length`."""
_OF_DATA = ("images", "annotations", "classes", "keys", "root", "labels", "class_options")


def training_config(data: OwnData, head: str, folder: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Return the config that trains a head on data.

    Args:
        data: with parts `train` and `val`, and names.
        head: a key of `HEADS`.
        folder: where lists of images are written.
        overrides: see `read_config`; `train_cfg.max_iters` states the length of the run, to which schedules are
            stretched.

    Raises:
        ConfigError: see `read_config`.
        ValueError: an override of what the data state.
    """
    name, task = HEADS[head]
    _check_overrides(overrides or {})
    config = read_config(name, overrides)
    for loader in ("train", "val", "test"):
        part = loader if loader in data.parts else "val"
        dataset = config[f"{loader}_dataloader"].dataset
        for key in _OF_DATA:
            dataset.pop(key, None)
        dataset.update({key: value for key, value in data.dataset(part, task, folder).items() if key != "type"})
    _set_length(config, "train_cfg.max_iters" in (overrides or {}))
    return config


def find_tower(name: str) -> ZooModel:
    """Return the published model of this name, whose weights are those of a CLIP of open_clip.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    model, usable = find_model(name), [one.name for one in zoo_models() if one.tag is not None]
    if model is None or model.tag is None:
        close = difflib.get_close_matches(name, usable, n=1)
        reason = "its weights are not those of a CLIP alone" if model else "no such published model"
        hint = f"; did you mean {close[0]}?" if close and model is None else ""
        raise ValueError(f"--model {name}: {reason}{hint} (expected one of {', '.join(usable)})")
    return model


def set_tower(config: Config, head: str, model: ZooModel) -> None:
    """Let a config use the CLIP of a published model: for the images of `lseg`, and for the names of both heads.

    Args:
        config: changed in place.
        head: a key of `HEADS`.
        model: from `find_tower`.
    """
    architecture, _, tag = (model.tag or "").rpartition("/")
    tower = dict(model=architecture, pretrained=tag)
    config.model.text_encoder.update(tower)
    if head == "lseg":
        config.model.backbone.update(tower)
        config.model.head.update(layers=_layers(architecture))
        config.model.head.decoder.update(readout="project" if _has_class_token(architecture) else "ignore")


def _check_overrides(overrides: Mapping[str, Any]) -> None:
    for key in overrides:
        loader, _, inner = key.partition(".dataset.")
        if loader.endswith("_dataloader") and inner.split(".")[0] in _OF_DATA:
            raise ValueError(f"--cfg-options {key}: --data states it; change the data file")


def _set_length(config: Config, is_stated: bool) -> None:
    """State the length by `run_length`, whatever the config has: the number of images is not known yet."""
    iters = config.train_cfg.pop("max_iters", None)
    given = config.get("run_length")
    if given is None:
        given = dict(LENGTH, schedule=max(int(item["end"]) for item in config.param_scheduler))
    if is_stated:
        given = {key: given[key] for key in ("schedule", "validations", "minutes") if key in given}
        given.update(min_iters=iters, max_iters=iters)
    config.run_length = given
    config.train_cfg.pop("val_interval", None)
    config.default_hooks.checkpoint.interval = None


def _layers(architecture: str) -> tuple[int, ...]:
    """Return the four blocks whose outputs LSeg reads, evenly spaced through a tower."""
    depth = len(_tower(architecture).spec.hidden_dims) - 1
    return tuple(max(1, round(depth * quarter / 4)) for quarter in (1, 2, 3, 4))


def _has_class_token(architecture: str) -> bool:
    tower = _tower(architecture)
    with torch.device("meta"):
        side = 2 * tower.spec.stride
        return bool(tower(torch.zeros(1, 3, side, side), layers=(1,), embed=False).prefix)


def _tower(architecture: str) -> CLIPBackbone:
    """Return a tower without weights: its shapes alone."""
    assert architecture in known_models()
    with torch.device("meta"):
        return CLIPBackbone(architecture, mean=(0, 0, 0), std=(1, 1, 1))
