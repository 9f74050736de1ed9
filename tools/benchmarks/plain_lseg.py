"""LSeg as the paper and its official code order its layers: the peer of the LSeg rows.

It uses the weights of our modules, so that both sides compute the same function.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from openvocab.backbones.clip import CLIPBackbone
from openvocab.backbones.clip_vit import VisionTransformerReader
from openvocab.heads.dpt import Fusion, Reassemble, ResidualUnit
from openvocab.heads.lseg import LSegHead
from openvocab.layers.positions import PositionResize, resize_positions
from openvocab.model import OpenVocabModel
from openvocab.structures import Size, known

Tokens = Tensor
"""(B, 1 + h * w, C), class token first."""


def full_size_logits(model: OpenVocabModel, images: Tensor, text: Tensor) -> Tensor:
    """Return logits (B, K, H, W) of images (B, 3, H, W) and unit-norm text (K, D), all at full size."""
    stride, head = model.backbone.spec.stride, lseg_head(model)
    grid = (images.shape[-2] // stride, images.shape[-1] // stride)
    tokens = _tokens(model, images, grid)
    embed = F.normalize(_decode(head, tokens, grid), dim=1)  # (B, D, H / 2, W / 2)
    logits = head.logit_scale * torch.einsum("bdhw,kd->bkhw", embed, text.to(embed.dtype))
    return F.interpolate(logits.float(), size=images.shape[-2:], mode="bilinear", align_corners=True)


def lseg_head(model: OpenVocabModel) -> LSegHead:
    """Return the head of a model of LSeg."""
    if not isinstance(model.head, LSegHead):
        raise TypeError(f"expected LSeg, got a {type(model.head).__name__}")
    return model.head


def _tokens(model: OpenVocabModel, images: Tensor, grid: Size) -> list[Tokens]:
    """Return the tokens that the decoder reads, from timm's or open_clip's own blocks."""
    backbone, layers = model.backbone, model.head.layers
    reader = backbone.reader if isinstance(backbone, CLIPBackbone) else None
    if isinstance(reader, VisionTransformerReader):
        return _open_clip_tokens(backbone.visual, images, layers, grid, reader.position_resize)
    features = backbone(images, layers)
    return [torch.cat([features.prefix[i][:, :1], features.hidden[i].flatten(2).mT], dim=1) for i in layers]


def _open_clip_tokens(
    visual: VisionTransformer, images: Tensor, layers: Sequence[int], grid: Size, position_resize: PositionResize
) -> list[Tokens]:
    patches = visual.conv1(images).flatten(2).mT  # (B, h * w, C)
    class_token = visual.class_embedding.expand(len(images), 1, -1)
    positions = resize_positions(visual.positional_embedding, visual.grid_size, grid, position_resize)
    tokens = visual.ln_pre(torch.cat([class_token, patches], dim=1) + positions)
    layer_tokens = []
    for number, block in enumerate(visual.transformer.resblocks, start=1):
        tokens = block(tokens)
        if number in layers:
            layer_tokens.append(tokens)
    return layer_tokens


def _decode(head: LSegHead, tokens: Sequence[Tokens], grid: Size) -> Tensor:
    """Return pixel embeddings (B, D, 2h, 2w) at half the image's size."""
    stages = cast("Sequence[Reassemble]", known(head.reassemble, "reassemble of a head on a ViT"))
    maps = [_reassemble(stage, level, grid) for stage, level in zip(stages, tokens)]
    levels = [conv(level) for conv, level in zip(head.decoder.inputs, maps)]
    fused = None
    fusions = cast("Sequence[Fusion]", head.decoder.fusions)
    for fusion, level in zip(reversed(fusions), reversed(levels)):
        fused = _fuse(fusion, fused, level)
    return head.embed(fused)


def _reassemble(stage: Reassemble, tokens: Tokens, grid: Size) -> Tensor:
    patches, class_token = tokens[:, 1:], tokens[:, :1]
    if stage.readout is not None:
        patches = F.gelu(stage.readout(torch.cat([patches, class_token.expand_as(patches)], dim=-1)))
    return stage.resize(stage.project(patches.mT.unflatten(2, grid)))


def _fuse(fusion: Fusion, coarse: Tensor | None, level: Tensor) -> Tensor:
    """Add the level, refine, upsample by two, project: the projection comes last, as in the official code."""
    if coarse is not None:
        if coarse.shape[-2:] != level.shape[-2:]:
            level = F.interpolate(level, size=coarse.shape[-2:], mode="bilinear", align_corners=False)
        level = coarse + _refine(known(fusion.skip_unit, "skip_unit of a fusion after the first"), level)
    size = [2 * length for length in level.shape[-2:]]
    fine = F.interpolate(_refine(fusion.unit, level), size=size, mode="bilinear", align_corners=True)
    return fusion.out(fine)


def _refine(unit: ResidualUnit, x: Tensor) -> Tensor:
    inner = unit.norm1(unit.conv1(F.relu(x)))
    return x + unit.norm2(unit.conv2(F.relu(inner)))


def text_rows(tower: nn.Module, tokens: Tensor) -> Tensor:
    """Encode tokens (N, 77) with the tower's own forward pass and the full context, (N, D) unit norm."""
    return F.normalize(tower(tokens), dim=-1)
