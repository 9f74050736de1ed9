"""Any image tower of open_clip as a backbone, at any image size."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from openvocab.backbones.base import Backbone
from openvocab.backbones.clip_resnet import ModifiedResNetReader
from openvocab.backbones.clip_timm import ConvNetReader
from openvocab.backbones.clip_vit import VisionTransformerReader
from openvocab.backbones.readouts import Readout, build_readout
from openvocab.clip.open_clip_model import create_clip, pixel_statistics, uses_quick_gelu
from openvocab.layers.batch_norm_folding import fold_batch_norms
from openvocab.layers.packed_linear import pack_linears
from openvocab.layers.positions import PositionResize, check_position_resize
from openvocab.layers.trainability import Trainable, freeze_batch_norms, set_mode, set_trainable
from openvocab.registry import BACKBONES
from openvocab.structures import BackboneSpec, ImageFeatures


class TowerReader(Protocol):
    """What `CLIPBackbone` asks of each kind of tower."""

    tail: tuple[str, ...]
    blocks: list[nn.Module]

    def spec(self) -> BackboneSpec:
        """Return the facts that heads read."""

    def __call__(self, images: Tensor, layers: Collection[int], embed: bool) -> ImageFeatures:
        """Encode a batch whose size fits."""


READERS: dict[type[nn.Module], type[TowerReader]] = {
    VisionTransformer: VisionTransformerReader,
    ModifiedResNet: ModifiedResNetReader,
    TimmModel: ConvNetReader,
}


@BACKBONES.register_module()
class CLIPBackbone(Backbone):
    """The image tower of a CLIP: ViT, ResNet with attention pool, or ConvNeXt.

    At the size it was trained on, `image_embed` equals open_clip's `encode_image`. Images of any size divisible by the
    stride are taken; position embeddings are resampled. `hidden[0]` is what enters the first block or stage,
    `hidden[i]` what leaves number i; `prefix[i]` the class token there (ViT).

    Args:
        model, pretrained: see `create_clip`.
        readout: what `patch_embed` is read from, by name or as a config with arguments; see `readouts/`. ConvNeXt has
            no attention; there only "clip", the head at each place.
        trainable: "none", "attention", "all", or n: the last n blocks (stages) and what follows them. What is frozen
            stays in eval mode and out of the autograd graph.
        position_resize: see `resize_positions`; default: as the code of the readout does it ("clip": "bicubic").
        checkpointing: recompute the blocks in the backward pass to save memory.
        norm_eval: keep batch norms at their running statistics while training.

    Raises:
        ValueError: unknown names, or a tower that has no per-patch embedding in the joint space.
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
    ) -> None:
        super().__init__()
        dense_readout = build_readout(readout)
        position_resize = position_resize or dense_readout.position_resize
        check_position_resize(position_resize)
        self.visual = create_clip(model, pretrained).visual
        if type(self.visual) not in READERS:
            raise ValueError(f"{model}: no reader for a {type(self.visual).__name__} tower")
        self.reader = READERS[type(self.visual)](self.visual, dense_readout, position_resize, checkpointing)
        self.spec = self.reader.spec()
        self.mean, self.std = pixel_statistics(model, pretrained)
        self.quick_gelu = uses_quick_gelu(model)
        self.norm_eval = norm_eval
        set_trainable(self.visual, self.reader.blocks, trainable, self.reader.tail)
        self.train()

    def forward(self, images: Tensor, layers: Collection[int] = (), embed: bool = True) -> ImageFeatures:
        """Encode a batch; see `Backbone.forward`. Images take the type of the weights."""
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
        """Set the mode of the trained parts; frozen parts, and batch norms with `norm_eval`, stay in eval mode."""
        self.training = mode
        set_mode(self.visual, mode)
        if self.norm_eval:
            freeze_batch_norms(self.visual)
        return self
