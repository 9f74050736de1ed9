"""The modified ResNet of CLIP with its attention pool, at any image size."""

from collections.abc import Collection

import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openvocab.backbones.clip_attention import attend, project_output, project_qkv
from openvocab.backbones.dense_attention import Readout, plain
from openvocab.backbones.positions import resize_positions
from openvocab.structures import BackboneSpec, ImageFeatures

STRIDES = (4, 4, 8, 16, 32)


class ModifiedResNetReader:
    """Reads pooled, dense and hidden features from open_clip's `ModifiedResNet` without changing it.

    The attention pool is a last attention without residual and feed-forward half: its token 0, the mean of the map,
    asks for the pooled embedding. The readouts ask for every place in the same way; "maskclip" is the value and the
    output projection of each place. The places keep their position embeddings, since the values that the pool averages
    contain them.

    Args:
        visual: the tower; the module that holds this reader owns it.
        readout: how the pool makes patch embeddings.
        position_resize: see `resize_positions`.
        checkpointing: recompute the residual blocks in the backward pass (their batch norms must be frozen).
    """

    tail = ("attnpool",)

    def __init__(self, visual: ModifiedResNet, readout: Readout, position_resize: str, checkpointing: bool) -> None:
        self.visual = visual
        self.readout = readout
        self.position_resize = position_resize
        self.checkpointing = checkpointing

    @property
    def blocks(self) -> list[nn.Module]:
        """Stages in order."""
        return [self.visual.layer1, self.visual.layer2, self.visual.layer3, self.visual.layer4]

    def spec(self) -> BackboneSpec:
        """Return the facts that heads read; `hidden[0]` leaves the stem, `hidden[i]` stage i."""
        widths = tuple(stage[-1].bn3.num_features for stage in self.blocks)
        return BackboneSpec(
            embed_dim=self.visual.output_dim,
            stride=STRIDES[-1],
            hidden_dims=(self.visual.bn3.num_features, *widths),
            hidden_strides=STRIDES,
        )

    def __call__(self, images: Tensor, layers: Collection[int]) -> ImageFeatures:
        """Encode (B, 3, H, W); see `Backbone.forward`."""
        features = ImageFeatures(input_size=tuple(images.shape[-2:]))
        maps = self.visual.stem(images)
        _keep(features, 0, maps, layers)
        for i, stage in enumerate(self.blocks, start=1):
            maps = self._run(stage, maps)
            _keep(features, i, maps, layers)
        features.image_embed, features.patch_embed = self._pool(maps)
        return features

    def _run(self, stage: nn.Sequential, maps: Tensor) -> Tensor:
        for block in stage:
            if self.checkpointing and torch.is_grad_enabled():
                if any(part.training for part in block.modules() if isinstance(part, nn.BatchNorm2d)):
                    raise ValueError("checkpointing would update batch norm twice a step; set checkpointing=False")
                maps = checkpoint(block, maps, use_reentrant=False)
            else:
                maps = block(maps)
        return maps

    def _pool(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled (B, D) and the dense (B, D, h, w) embedding of (B, C, h, w)."""
        pool = self.visual.attnpool
        grid_size = tuple(maps.shape[-2:])
        native = (self.visual.image_size // STRIDES[-1],) * 2
        places = maps.flatten(2).transpose(1, 2)  # (B, h * w, C)
        tokens = torch.cat([places.mean(dim=1, keepdim=True), places], dim=1)
        positions = resize_positions(pool.positional_embedding, native, grid_size, self.position_resize)
        q, k, v = project_qkv(pool, tokens + positions.to(tokens.dtype))
        dense = project_output(pool, self.readout.mix((q, k, v), grid_size))  # (B, 1 + h * w, D)
        as_trained = self.readout.mix is plain
        pooled = dense[:, 0] if as_trained else project_output(pool, attend(q[:, :, :1], k, v))[:, 0]
        return pooled, dense[:, 1:].transpose(1, 2).unflatten(2, grid_size)


def _keep(features: ImageFeatures, i: int, maps: Tensor, layers: Collection[int]) -> None:
    if i in layers:
        features.hidden[i] = maps
