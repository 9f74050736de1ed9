"""Image towers of timm as backbones without a joint space: LSeg's ViT-L/16, ResNet-101, hybrids, MobileNetV2."""

import difflib
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from openvocab.backbones.base import RGB, Backbone, rgb
from openvocab.backbones.timm_pyramid import PyramidReader
from openvocab.backbones.timm_vit import TokenReader, without_classifier
from openvocab.checkpoint.checkpoint import load_state_dict
from openvocab.checkpoint.hub import can_reach_hub, hub_file
from openvocab.checkpoint.start_weights import reads_start_weights
from openvocab.checkpoint.strict_loading import load_strictly
from openvocab.converters.mobilenet_v2 import is_torchvision_layout, torchvision_to_timm
from openvocab.layers.batch_norm_folding import fold_batch_norms
from openvocab.layers.packed_linear import pack_linears
from openvocab.layers.positions import PositionResize
from openvocab.layers.resnet_style import ResNetStyle, set_resnet_style
from openvocab.layers.trainability import Trainable, freeze_batch_norms, set_mode, set_trainable
from openvocab.missing_file import MissingFile
from openvocab.registry import BACKBONES
from openvocab.structures import ImageFeatures

UNUSED_PARTS = (
    "norm.",
    "fc_norm.",
    "head.",
    "head_dist.",
    "attn_pool.",
    "pre_logits.",
    "fc.",
    "classifier.",
    "conv_head.",
    "bn2.",
)
"""Layers of a classifier after its last feature map; removed from the tower and skipped in weight files."""


@BACKBONES.register_module()
class TimmBackbone(Backbone):
    """A timm model with features from several depths.

    A plain or hybrid vision transformer takes any size divisible by its patch: `hidden[0]` is the input of the first
    block, `hidden[i]` the output of block i (the residual stream, before any norm), `prefix[i]` the class token there.
    For every other architecture, `hidden[i]` is stage i of timm's feature pyramid, fine to coarse.

    Args:
        model: a name of `timm.list_models()`.
        pretrained: None (random weights), True (timm's own: needs network or its cache), or a local file in timm's
            layout (MobileNetV2: also torchvision's).
        trainable: "none", "attention", "all", or n: the last n blocks (of a pyramid: its last n parts).
        position_resize: how position embeddings are resampled: "bilinear", as in LSeg, or another method of
            `resize_positions`.
        mean, std: RGB of pixel values in 0..255; default: those of the model's entry in timm.
        norm_eval: keep batch norms at their running statistics while training.
        checkpointing: recompute blocks in the backward pass to save memory.
        resnet_style: "caffe" or "tensorflow" for ResNet weights of that origin; see `set_resnet_style`.
        model_args: further arguments of timm's constructor, such as `dict(pad_type="same")` for weights trained in
            TensorFlow (stride-2 convolutions then pad right and bottom), or `dict(strict_img_size=False)` for Swin.

    Raises:
        ValueError: the model is unknown, or the file does not fit it.
        FileNotFoundError: the file does not exist, or the weights cannot be downloaded.
    """

    reader: TokenReader | PyramidReader

    def __init__(
        self,
        model: str,
        pretrained: str | Path | bool | None = None,
        trainable: Trainable = "all",
        position_resize: PositionResize = "bilinear",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        norm_eval: bool = False,
        checkpointing: bool = False,
        resnet_style: ResNetStyle | None = None,
        model_args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not reads_start_weights():
            pretrained = None
        self.visual = create_tower(model, pretrained is True, model_args)
        if resnet_style is not None:
            set_resnet_style(self.visual, resnet_style)
        if isinstance(self.visual, VisionTransformer):
            self.reader = TokenReader(self.visual, position_resize, checkpointing)
        else:
            self.reader = PyramidReader(self.visual, checkpointing)
        if isinstance(pretrained, (str, Path)):
            load_tower(self.visual, model, Path(pretrained))
        self.spec = self.reader.spec()
        self.mean, self.std = pixel_statistics(self.visual, mean, std)
        self.norm_eval = norm_eval
        set_trainable(self.visual, self.reader.blocks, trainable)
        self.train()

    def forward(self, images: Tensor, layers: Collection[int] = (), embed: bool = True) -> ImageFeatures:
        """Encode images (B, 3, H, W) up to the deepest of `layers`; see `Backbone.forward`."""
        self.check_input(images, layers)
        return self.reader(images.to(next(self.visual.parameters()).dtype), layers)

    def fold_batch_norms(self) -> None:
        """See `Backbone.fold_batch_norms`; a vision transformer has none."""
        if isinstance(self.reader, PyramidReader):
            self.visual = self.reader.visual = fold_batch_norms(self.visual)

    def pack_linears(self) -> None:
        """See `Backbone.pack_linears`; only for plain blocks, since others access the weights of their layers."""
        if isinstance(self.reader, TokenReader):
            for block in self.reader.blocks:
                if type(block) is Block:
                    pack_linears(block)

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Set the mode of trained parts; frozen parts, and batch norms with `norm_eval`, stay in eval mode."""
        self.training = mode
        set_mode(self.visual, mode)
        if self.norm_eval:
            freeze_batch_norms(self.visual)
        return self


def create_tower(model: str, pretrained: bool = False, model_args: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a timm model without its classifier: a `VisionTransformer`, or a feature pyramid.

    Raises:
        ValueError: timm does not know the model or an argument.
        FileNotFoundError: `pretrained` is True and the weights cannot be downloaded.
    """
    args = dict(model_args or {})
    if "pretrained" in args:
        raise ValueError("model_args: 'pretrained' is an argument of the backbone itself; give it there")
    with torch.device("meta"):  # to learn the type without memory for the weights
        plain_vit = type(create_timm_model(model, **args)) is VisionTransformer
    if not plain_vit:
        return create_timm_model(model, pretrained, features_only=True, **args)
    tower = create_timm_model(model, pretrained, dynamic_img_size=True, **args)
    return without_classifier(cast(VisionTransformer, tower))


def pixel_statistics(
    tower: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> tuple[RGB, RGB]:
    """Return mean and std of pixel values in 0..255: the given ones, or those of timm's entry for the tower.

    Raises:
        ValueError: the given ones are not three values each.
    """
    entry: Any = tower.pretrained_cfg
    return (
        rgb(mean or (255 * value for value in entry["mean"]), "mean"),
        rgb(std or (255 * value for value in entry["std"]), "std"),
    )


def create_timm_model(model: str, pretrained: bool = False, **model_args: Any) -> nn.Module:
    """Call timm's constructor; raises the same errors as `create_tower`."""
    if not timm.is_model(model):
        near = difflib.get_close_matches(model, timm.list_models(), n=4, cutoff=0.4)
        raise ValueError(f"timm has no model {model!r}; nearest known names: {', '.join(near) or 'none'}")
    rejected = sorted({"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"} & set(model_args))
    if rejected:
        raise ValueError(f"model_args: {rejected[0]!r} would let timm load other weights; give them as pretrained=")
    if pretrained and (file := _hub_weights(model)) is not None:
        # custom_load describes the original file elsewhere (JAX), not the one on the hub
        model_args["pretrained_cfg_overlay"] = dict(file=str(file), custom_load=False)
    try:
        with _unused_parts_unsaid():
            return timm.create_model(model, pretrained=pretrained, **model_args)
    except TypeError as error:
        raise ValueError(f"timm model {model!r} does not take model_args={model_args}: {error}") from error
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        reason = f"cannot download timm's weights of {model!r} ({type(error).__name__}); try again later"
        raise MissingFile(reason, "pretrained=PATH") from error


@contextmanager
def _unused_parts_unsaid() -> Iterator[None]:
    """Drop timm's warning of entries that the tower lacks if they are the classifier's, of `UNUSED_PARTS`."""

    def is_news(record: logging.LogRecord) -> bool:
        found = re.match(r"Unexpected keys \((.*)\) found", record.getMessage())
        return found is None or not all(key.startswith(UNUSED_PARTS) for key in found[1].split(", "))

    timms = logging.getLogger("timm.models._builder")
    timms.addFilter(is_news)
    try:
        yield
    finally:
        timms.removeFilter(is_news)


def _hub_weights(model: str) -> Path | None:
    """Return the file of timm's weights on the hub, None if they are elsewhere, where timm itself finds them.

    timm's own client repeats each request for half a minute if the hub cannot be reached, and knows no file that was
    put there by hand.

    Raises:
        OSError: see `hub_file`.
    """
    entry = timm.get_pretrained_cfg(model)
    if entry is None or not entry.hf_hub_id or entry.hf_hub_filename or str(entry.custom_load) == "hf":
        return None
    try:
        return hub_file(entry.hf_hub_id, ["model.safetensors"])
    except FileNotFoundError as error:
        if can_reach_hub():
            return None
        raise MissingFile(f"timm's weights of {model!r}: {error}", "pretrained=PATH") from error


def load_tower(tower: nn.Module, model: str, path: Path) -> None:
    """Load a local file into a tower of `create_tower`; the layers of a classifier in the file are skipped.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: names or shapes do not fit; the message lists the first differences.
    """
    state = read_timm_weights(path)
    load_strictly(tower, fit_keys(state, tower.state_dict()), f"{path} does not fit {model}")


def read_timm_weights(path: Path) -> dict[str, Tensor]:
    """Read a file in timm's layout; MobileNetV2 in torchvision's layout is renamed."""
    if not path.is_file():
        raise FileNotFoundError(f"pretrained: no such file: {path}")
    state = load_state_dict(path)
    return torchvision_to_timm(state) if is_torchvision_layout(state) else state


def fit_keys(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of a classifier in timm's layout to those of the tower.

    A pyramid calls `stages.0` `stages_0`. The step counters of batch norms, which many files lack, keep their values
    in `expected`.
    """
    # Loading is strict, so that a counter that the file lacks must come from the tower itself.
    fitted = step_counters(expected)
    for key, value in state.items():
        names = [name for name in (key, key.replace(".", "_", 1), f"model.{key}") if name in expected]
        if names:
            fitted[names[0]] = value
        elif not key.startswith(UNUSED_PARTS):
            fitted[key] = value
    return fitted


def step_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the step counters of batch norms."""
    return {key: value for key, value in state.items() if key.endswith("num_batches_tracked")}
