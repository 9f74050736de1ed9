"""The config that a name refers to: that of a published model, one that comes with the package, or a file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from openvocab.config.config import read_config
from openvocab.config.shipped import config_file
from openvocab.zoo.models import ZooModel, find_model, zoo_models


def read_named_config(
    name: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None
) -> tuple[Config, ZooModel | None]:
    """Read the config of a published model with its settings, or a config by its name or path.

    Args:
        name: "groupvit-gcc-yfcc", "lseg_ade" or "mine.py"; a file in the working folder comes first.
        overrides: `{"train_cfg.max_iters": 100}`; they replace settings of the published model.

    Returns:
        The config, and the published model whose name was given, if any.

    Raises:
        FileNotFoundError: there is no such model, config or file; the nearest names are listed.
        ConfigError: see `read_config`.
    """
    model = None if Path(name).is_file() else find_model(os.fspath(name))
    if model is not None:
        return read_config(model.config, {**model.settings, **(overrides or {})}), model
    return read_config(config_file(name, [other.name for other in zoo_models()]), overrides), None
