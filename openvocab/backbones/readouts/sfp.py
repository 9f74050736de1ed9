"""SFP: the course of SC-CLIP with the class token's attention as the judge of outliers."""

from collections.abc import Collection

import torch
from torch import Tensor

from openvocab.backbones.readouts.base import ForwardPass
from openvocab.backbones.readouts.self_calibration import SelfCalibration, guided
from openvocab.backbones.readouts.similarity import alike, attention_weights, contrast_softmax, fill
from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import Projections, project_qkv
from openvocab.registry import READOUTS
from openvocab.structures import Size

MOST = 10
"""Outliers of an image."""
SELF_REGARD = 1.5
"""How many times the class token's attention must exceed a patch's own to itself."""


@READOUTS.register_module(name="sfp")
class SFP(SelfCalibration):
    """Outliers are what the class token looks at, more than they look at themselves, in the block before the last.

    Weights: (softmax(3 (C - mean C)) + softmax(s k kT) + softmax(s q qT)) / 3, with dissimilar patches 0 in C; in the
    second pass the first term alone.

    Reference: the code of SFP (ICCV 2025), commit 2804f5b7.
    """

    def check_tower(self, width: int, num_blocks: int) -> None:
        """See `Readout.check_tower`."""
        if num_blocks < 2:
            raise ValueError(f"sfp reads the block before the last; this tower has {num_blocks}")

    def reads(self, num_blocks: int) -> Collection[int]:
        """Read what enters the block before the last, too."""
        return {num_blocks - 2, *super().reads(num_blocks)}

    def outliers(self, tower: ForwardPass) -> Tensor:
        """Return the patches that draw the class token's attention most, ten at most."""
        count = len(tower.blocks)
        block, tokens = tower.blocks[count - 2], tower.states[count - 2]
        q, k, _ = project_qkv(block.attn, block.ln_1(tokens))
        weights = attention_weights(q, k).mean(1)  # (B, 1 + N, 1 + N)
        seen, own = weights[:, 0, 1:], weights.diagonal(dim1=1, dim2=2)[:, 1:]  # (B, N)
        drawing = torch.where(SELF_REGARD * seen > own, seen, -torch.inf)
        most = drawing.topk(min(MOST, drawing.shape[1])).indices
        return torch.zeros_like(drawing, dtype=torch.bool).scatter_(1, most, True) & drawing.isfinite()

    def filled(self, patches: Tensor, outliers: Tensor, grid_size: Size) -> Tensor:
        """Return the mean of sound neighbors for outliers, 0 for those without."""
        return fill(patches, outliers, grid_size)[0]

    def guide(self, similarity: Tensor) -> Tensor:
        """Return softmax(3 (C - mean C)) over what is above the mean, dissimilar patches 0 in C."""
        return contrast_softmax(alike(similarity))

    def mix(self, projections: Projections, guide: Tensor) -> Tensor:
        """Mix by C, by the keys and by the queries, a third each."""
        q, k, v = projections
        return (guided(v, guide) + attend(k, k, v) + attend(q, q, v)) / 3

    def mix_again(self, projections: Projections, guide: Tensor) -> Tensor:
        """Mix by C alone."""
        return guided(projections[2], guide)
