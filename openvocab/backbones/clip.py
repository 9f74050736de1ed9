"""Image towers of open_clip as backbones, at any image size."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from openvocab.backbones.base import Backbone, rgb
from openvocab.backbones.clip_resnet import ModifiedResNetReader
from openvocab.backbones.clip_timm import ConvNetReader
from openvocab.backbones.clip_timm_vit import TimmTransformerReader
from openvocab.backbones.clip_vit import VisionTransformerReader
from openvocab.backbones.readouts import Readout, build_readout
from openvocab.clip.open_clip_model import create_image_tower, pixel_statistics, uses_quick_gelu
from openvocab.layers.batch_norm_folding import fold_batch_norms
from openvocab.layers.packed_linear import pack_linears
from openvocab.layers.positions import PositionResize, check_position_resize
from openvocab.layers.trainability import Trainable, freeze_batch_norms, set_mode, set_trainable
from openvocab.registry import BACKBONES
from openvocab.structures import BackboneSpec, ImageFeatures


class TowerReader(Protocol):
    """Computes the features of one type of tower for `CLIPBackbone`."""

    @property
    def tail(self) -> tuple[str, ...]:
        """Name prefixes of the parameters after the last block."""

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Blocks or stages in order."""

    def spec(self) -> BackboneSpec:
        """Return embedding width, strides and channels."""

    def __call__(self, images: Tensor, layers: Collection[int], embed: bool) -> ImageFeatures:
        """Encode images (B, 3, H, W) whose size is divisible by the stride."""


def tower_reader(
    visual: nn.Module, readout: Readout, position_resize: PositionResize, checkpointing: bool
) -> TowerReader:
    """Return the reader of an image tower of open_clip.

    Raises:
        ValueError: the tower has no reader, or does not take the readout.
    """
    if type(visual) not in READERS:
        raise ValueError(f"no reader for a {type(visual).__name__} tower; docs/towers.md lists those that have one")
    return READERS[type(visual)](visual, readout, position_resize, checkpointing)


def _timm_reader(
    visual: TimmModel, readout: Readout, position_resize: PositionResize, checkpointing: bool
) -> TowerReader:
    """Return the reader of a tower that open_clip builds with timm: a transformer, or stages of convolutions."""
    kind = TimmTransformerReader if hasattr(visual.trunk, "blocks") else ConvNetReader
    return kind(visual, readout, position_resize, checkpointing)


READERS: dict[type[nn.Module], Callable[[Any, Readout, PositionResize, bool], TowerReader]] = {
    VisionTransformer: VisionTransformerReader,
    ModifiedResNet: ModifiedResNetReader,
    TimmModel: _timm_reader,
}


@BACKBONES.register_module()
class CLIPBackbone(Backbone):
    """The image tower of any CLIP of open_clip: vision transformer, ResNet with attention pool, or ConvNeXt.

    At the image size of its training, `image_embed` equals open_clip's `encode_image`. Images may have any size
    divisible by the stride; position embeddings are resampled. `hidden[0]` is the input of the first block or stage,
    `hidden[i]` the output of the i-th; `prefix[i]` is the class token there, if the tower has one. docs/towers.md lists
    all towers.

    Where the tower pools its tokens by a learned query (SigLIP, PE, CoCa), `patch_embed` of the readout "clip" is the
    share of each patch in `image_embed`, and of the others the embedding of each patch alone; see `AttentionPool`.

    Args:
        model, pretrained: see `create_clip`.
        readout: how `patch_embed` is computed, as a name or a config with arguments; see `readouts/`. ConvNeXt has no
            attention and accepts only "clip", which applies its head to every cell of the map.
        trainable: "none", "attention", "all", or n: the last n blocks (stages) and everything after them. Frozen parts
            stay in eval mode and out of the autograd graph.
        position_resize: see `resize_positions`; default: the method of the readout's official code ("clip": "bicubic").
        checkpointing: recompute the blocks in the backward pass to save memory.
        norm_eval: keep batch norms at their running statistics while training.
        mean, std: RGB of pixel values in 0..255; default: those that the weights expect, see `pixel_statistics`.

    Raises:
        ValueError: a name is unknown, or the tower has no patch embeddings in the joint space.
    """

    def __init__(
        self,
        model: str,
        pretrained: str | None = None,
        readout: str | Mapping[str, Any] | Readout = "clip",
        trainable: Trainable = "none",
        position_resize: PositionResize | None = None,
        checkpointing: bool = False,
        norm_eval: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        dense_readout = build_readout(readout)
        position_resize = position_resize or dense_readout.position_resize
        check_position_resize(position_resize)
        self.visual = create_image_tower(model, pretrained)
        try:
            self.reader = tower_reader(self.visual, dense_readout, position_resize, checkpointing)
        except ValueError as error:
            raise ValueError(f"{model}: {error}") from error
        self.spec = self.reader.spec()
        usual_mean, usual_std = pixel_statistics(model, pretrained) if mean is None or std is None else (mean, std)
        self.mean, self.std = rgb(mean or usual_mean, "mean"), rgb(std or usual_std, "std")
        self.quick_gelu = uses_quick_gelu(model)
        self.norm_eval = norm_eval
        set_trainable(self.visual, self.reader.blocks, trainable, self.reader.tail)
        # nn.Module starts in training mode; this puts the frozen parts in eval mode at once.
        self.train()

    def forward(self, images: Tensor, layers: Collection[int] = (), embed: bool = True) -> ImageFeatures:
        """Encode images (B, 3, H, W), cast to the dtype of the weights; see `Backbone.forward`."""
        self.check_input(images, layers)
        return self.reader(images.to(next(self.visual.parameters()).dtype), layers, embed)

    def fold_batch_norms(self) -> None:
        """See `Backbone.fold_batch_norms`."""
        for stage in self.reader.blocks:
            for name, part in stage.named_children():
                setattr(stage, name, fold_batch_norms(part))

    def pack_linears(self) -> None:
        """See `Backbone.pack_linears`."""
        for block in self.reader.blocks:
            pack_linears(block)

    def train(self, mode: bool = True) -> "CLIPBackbone":
        """Set the mode of trained parts; frozen parts, and batch norms with `norm_eval`, stay in eval mode."""
        self.training = mode
        set_mode(self.visual, mode)
        if self.norm_eval:
            freeze_batch_norms(self.visual)
        return self
