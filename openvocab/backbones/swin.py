"""Swin transformers at any image size, as detectors use them."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from openvocab.argument_checks import check_number, check_numbers
from openvocab.backbones.base import Backbone, rgb
from openvocab.backbones.patch_embedding import IMAGENET_MEAN, IMAGENET_STD
from openvocab.backbones.timm_backbone import read_timm_weights
from openvocab.checkpoint.start_weights import reads_start_weights
from openvocab.checkpoint.strict_loading import load_strictly
from openvocab.layers.packed_linear import pack_linears
from openvocab.layers.swin_stage import PatchEmbedding, SwinStage
from openvocab.layers.trainability import Trainable, set_mode, set_trainable
from openvocab.registry import BACKBONES
from openvocab.structures import BackboneSpec, ImageFeatures, size_of

PATCH = 4
CLASSIFIER = ("norm.", "head.")
CONSTANTS = ("relative_position_index", "attn_mask")


@BACKBONES.register_module()
class SwinBackbone(Backbone):
    """A Swin transformer whose maps may have any size: they are padded to whole windows, then the windows are shifted.

    `hidden[0]` is the patch embedding (stride 4), `hidden[i]` the output of stage i (strides 4, 8, 16, 32). A stage of
    `output_norms` returns its map through a norm of its own; the next stage continues from the map before that norm.

    timm's Swin is the same network where every map is larger than a window and consists of whole windows, as at the
    size of its pretraining. At other sizes it shifts before it pads, and its maps differ from the official ones.

    Args:
        dim: C of the first stage; it doubles with every stage.
        depths: number of blocks of each stage.
        heads: number of heads of each stage.
        window: side of a window in tokens.
        drop_path: largest stochastic depth; it grows linearly over the blocks from 0.
        output_norms: the stages, counted from 1, that have a norm of their own on their output.
        pretrained: None (random weights), or a local file of a classifier in the official or in timm's layout. The
            output norms keep their initial values.
        trainable: "none", "attention", "all", or n: the last n of the patch embedding and the stages, with the output
            norms. The official `FREEZE_CONV_BODY_AT: 2` (embedding and first stage frozen) is 3 of a Swin's 4 stages.
        mean, std: RGB of pixel values in 0..255; default: ImageNet's.
        checkpointing: recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: arguments that do not fit each other, or a file that does not fit the network.
        FileNotFoundError: the file does not exist.

    Reference: arXiv 2103.14030. Swin-T is the default; Swin-L has dim 192, depths (2, 2, 18, 2), heads (6, 12, 24, 48),
    window 12.
    """

    def __init__(
        self,
        dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        drop_path: float = 0.2,
        output_norms: Sequence[int] = (2, 3, 4),
        pretrained: str | Path | None = None,
        trainable: Trainable = "all",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        dims = _check(dim, depths, heads, window, drop_path, output_norms)
        self.patch_embed = PatchEmbedding(dim, PATCH)
        # on the CPU, since `item` needs values even if the network is built on the meta device
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").split(list(depths))
        self.stages = nn.ModuleList(
            SwinStage(dims[i], heads[i], window, rates[i].tolist(), i + 1 < len(dims), checkpointing)
            for i in range(len(dims))
        )
        self.output_norms = nn.ModuleDict({str(stage): nn.LayerNorm(dims[stage - 1]) for stage in output_norms})
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        strides = [PATCH * 2**i for i in range(len(dims))]
        self.spec = BackboneSpec(None, strides[-1], (dim, *dims), (PATCH, *strides))
        self.mean, self.std = rgb(mean, "mean"), rgb(std, "std")
        if pretrained is not None and reads_start_weights():
            self._load(Path(pretrained))
        set_trainable(self, [self.patch_embed, *self.stages], trainable, tail=("output_norms.",))
        self.train()

    def forward(self, images: Tensor, layers: Collection[int] = (), embed: bool = True) -> ImageFeatures:
        """Encode images (B, 3, H, W) up to the deepest of `layers`; see `Backbone.forward`."""
        self.check_input(images, layers)
        features = ImageFeatures(input_size=size_of(images))
        maps = self.patch_embed(images)  # (B, H / 4, W / 4, C)
        if 0 in layers:
            features.hidden[0] = maps.permute(0, 3, 1, 2)
        last = max(layers, default=0)
        for number, stage in enumerate(cast("list[SwinStage]", self.stages)[:last], start=1):
            maps = stage(maps)
            if number in layers:
                output = self.output_norms[str(number)](maps) if str(number) in self.output_norms else maps
                features.hidden[number] = output.permute(0, 3, 1, 2)  # (B, C, h, w)
            if number < last:
                maps = stage.downsample(maps)
        return features

    def pack_linears(self) -> None:
        """See `Backbone.pack_linears`."""
        for stage in self.stages:
            pack_linears(stage)

    def train(self, mode: bool = True) -> "SwinBackbone":
        """Set the mode of trained parts; frozen parts stay in eval mode."""
        self.training = mode
        for part in self.children():
            set_mode(part, mode)
        return self

    def _load(self, path: Path) -> None:
        """Load a classifier; what comes after its last stage, and constants, are skipped."""
        entries = _in_official_order(read_timm_weights(path))
        state = {f"output_norms.{name}": value for name, value in self.output_norms.state_dict().items()}
        for name, value in entries.items():
            if not name.startswith(CLASSIFIER) and not name.endswith(CONSTANTS):
                state["stages" + name.removeprefix("layers") if name.startswith("layers.") else name] = value
        load_strictly(self, state, f"{path} does not fit this Swin")


def _in_official_order(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """File `downsample` under the stage before it, as in the official layout; timm files it under the one after it."""
    downsamples = {int(name.split(".")[1]) for name in state if name.startswith("layers.") and ".downsample." in name}
    if 0 in downsamples:
        return dict(state)
    renamed = {}
    for name, value in state.items():
        _, _, rest = name.partition(".downsample.")
        renamed[f"layers.{int(name.split('.')[1]) - 1}.downsample.{rest}" if rest else name] = value
    return renamed


def _check(
    dim: int,
    depths: Sequence[int],
    heads: Sequence[int],
    window: int,
    drop_path: float,
    output_norms: Sequence[int],
) -> list[int]:
    """Check the arguments of a backbone, and return the widths of its stages."""
    check_number("dim", dim, 1, whole=True)
    check_numbers("depths", depths, 1, whole=True)
    check_numbers("heads", heads, 1, whole=True)
    check_number("window", window, 1, whole=True)
    check_number("drop_path", drop_path)
    check_numbers("output_norms", output_norms, whole=True)
    if not depths or len(heads) != len(depths):
        raise ValueError(
            f"heads: expected one number for each of the {len(depths)} stages of depths, got {list(heads)}"
        )
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path: expected a probability below 1, got {drop_path}")
    dims = [dim * 2**i for i in range(len(depths))]
    for width, count in zip(dims, heads):
        if width % count:
            raise ValueError(f"heads: {count} does not divide the {width} channels of its stage")
    unknown = [stage for stage in output_norms if not 1 <= stage <= len(dims)]
    if unknown:
        raise ValueError(f"output_norms: expected stages from 1 to {len(dims)}, got {unknown}")
    return dims
