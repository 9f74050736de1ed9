"""Build a model for prediction: a published one, that of a config, or that of a checkpoint."""

import os
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.config import Config
from torch import Tensor

from openvocab.checkpoint.checkpoint import load_checkpoint, load_state_dict
from openvocab.checkpoint.published import read_published_meta
from openvocab.checkpoint.start_weights import start_weights
from openvocab.checkpoint.strict_loading import check_same_weights
from openvocab.checkpoint.weights_file import HUB_PREFIX, WEIGHT_FILES, weights_file
from openvocab.clip.build_once import built_once
from openvocab.config.config import read_config, test_pipeline
from openvocab.config.saved import building_from_file, config_of
from openvocab.missing_file import argument_of
from openvocab.predictor.predictor import Predictor
from openvocab.process.bfloat16_probe import faster_dtype
from openvocab.registry import MODELS, TRANSFORMS

CHECKPOINT_ENDINGS = (".pth", ".pt", ".ckpt", ".safetensors")
"""File name extensions by which `load` tells a checkpoint from a config, if only one of them is given."""


def load(
    config: str | PathLike[str] | Config | None = None,
    checkpoint: str | PathLike[str] | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | Literal["auto"] = torch.float32,
    accept_license: bool = False,
) -> Predictor:
    """Build a model for prediction: a published one, that of a config, or that of a checkpoint.

    `load("dense-clip-vit-b16")`, `load("lseg_shapes", "best.pth")`, `load("best.pth")`, `load("hf-hub:OWNER/NAME")`.

    The state of the process does not change: neither its random generators nor torch's settings. On machines where
    float32 matrix products are exact and faster with `torch.set_float32_matmul_precision("medium")`, the host program
    may set that; our tools set it for themselves.

    Args:
        config: the name of a published model (`openvocab.zoo`), whose weights are fetched once; the name of a config
            that comes with the package; the path of a config file (it is code: use only files that you trust); or a
            config. A path that ends in .pth, .pt or .ckpt is a checkpoint of our training, and a folder, a file that
            ends in .safetensors or "hf-hub:OWNER/NAME" a model that `openvocab publish` has written; the model is then
            built from the config inside it, which is only data: nothing in it is run or imported.
        checkpoint: weights of the whole model, ours, converted or published; default: the weights that the config
            starts from. Without a config, it must be a checkpoint of our training or a published model, as above.
        device: default: CUDA if available, else the CPU.
        dtype: dtype of backbone and head; `torch.bfloat16` is about twice as fast on GPUs and on CPUs with AVX-512
            BF16, and three times as slow on other CPUs. "auto" uses it if a probe shows it to be faster on the device.
        accept_license: needed once for a published model whose license restricts commercial use.

    Raises:
        FileNotFoundError: there is no such model, config or checkpoint; or the weights cannot be fetched.
        PermissionError: the license of a published model has to be accepted, or its repository is gated.
        ValueError: the config has no model; the checkpoint is of another model (the message counts the differences);
            no config is given, and the checkpoint has none, or one with a class that is not registered; or `dtype` is
            not one of the choices.
    """
    if dtype != "auto" and not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype: expected 'auto' or a torch.dtype such as torch.bfloat16, got {dtype!r}")
    if checkpoint is None and isinstance(config, (str, PathLike)) and _is_checkpoint(config):
        config, checkpoint = None, config
    if checkpoint is not None:
        checkpoint = weights_file(os.fspath(checkpoint))
    weights: dict[str, Tensor] | None = None
    if config is None:
        full_config, weights = _config_and_weights(checkpoint)
    else:
        if isinstance(config, Config):
            full_config = config
        else:
            full_config, checkpoint = _read_named(os.fspath(config), checkpoint, accept_license)
        if checkpoint is not None:
            weights = load_state_dict(os.fspath(checkpoint))
    only_registered = building_from_file(str(checkpoint)) if config is None else nullcontext()
    unchanged_generator = torch.random.fork_rng(devices=[])
    with start_weights(load=weights is None), built_once(), only_registered, unchanged_generator:
        with argument_of("model"):
            model = MODELS.build(full_config.model)
        with start_weights(load=True):  # no checkpoint of the model holds the weights of a teacher in the pipeline
            pipeline = [TRANSFORMS.build(step) for step in test_pipeline(full_config)]
    if weights is not None:
        check_same_weights(model.state_dict(), weights, str(checkpoint))
        model.load_state_dict(weights)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if dtype == "auto":
        dtype = faster_dtype(device, "predictions are computed")
    return Predictor(model.to(device).compute_in(dtype), pipeline)


def _is_checkpoint(source: str | PathLike[str]) -> bool:
    """Return whether a path or name is that of a checkpoint, of a folder of published weights, or of one on the hub."""
    path = Path(source)
    is_on_hub = os.fspath(source).startswith(HUB_PREFIX)
    return is_on_hub or path.suffix in CHECKPOINT_ENDINGS or any((path / name).is_file() for name in WEIGHT_FILES)


def _read_named(
    name: str, checkpoint: str | PathLike[str] | None, accept_license: bool
) -> tuple[Config, str | PathLike[str] | None]:
    """Read the config of a published model, of a name, or of a path; return it, and the checkpoint or published one."""
    if Path(name).is_file():
        return read_config(name), checkpoint
    from openvocab.zoo import prepare_weights, read_named_config  # here: a config in a file needs none of it

    config, model = read_named_config(name)
    if model is not None and checkpoint is None:
        checkpoint = prepare_weights(model, accept_license)
    return config, checkpoint


def _config_and_weights(path: str | PathLike[str] | None) -> tuple[Config, dict[str, Tensor]]:
    """Read the config and the weights from a checkpoint."""
    if path is None:
        raise ValueError("load: expected a config, a checkpoint, or both")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such checkpoint: {path}")
    content: dict[str, Any]
    if Path(path).suffix == ".safetensors":
        content = {"meta": read_published_meta(Path(path)), "state_dict": load_state_dict(os.fspath(path))}
    else:
        content = load_checkpoint(os.fspath(path))
    config = config_of(content, str(path))
    return config, content.get("state_dict") or {}
