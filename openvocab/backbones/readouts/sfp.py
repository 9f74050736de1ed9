"""SFP: the algorithm of SC-CLIP with outliers that are detected by the class token's attention."""

from collections.abc import Collection

import torch
from torch import Tensor

from openvocab.backbones.readouts.base import ForwardPass
from openvocab.backbones.readouts.self_calibration import SelfCalibration, apply_weights
from openvocab.backbones.readouts.similarity import attention_weights, contrast_softmax, fill_outliers, keep_similar
from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import Projections
from openvocab.registry import READOUTS
from openvocab.structures import Size

MAX_OUTLIERS = 10
"""Per image."""
ATTENTION_RATIO = 1.5
"""A patch is an outlier only if this factor times the class token's attention exceeds its attention to itself."""


@READOUTS.register_module(name="sfp")
class SFP(SelfCalibration):
    """Self-calibration with outliers that draw the class token's attention in the second-to-last block.

    The weights are (softmax(3 (C - mean C)) + softmax(s k kT) + softmax(s q qT)) / 3, with dissimilar patches 0 in C;
    the second pass uses the first term only.

    Reference: the code of SFP (ICCV 2025), commit 2804f5b7.
    """

    def check_tower(self, width: int, num_blocks: int) -> None:
        """See `Readout.check_tower`."""
        if num_blocks < 2:
            raise ValueError(f"sfp needs the second-to-last block; this tower has {num_blocks}")

    def reads(self, num_blocks: int) -> Collection[int]:
        """Require the input of the second-to-last block too."""
        return {num_blocks - 2, *super().reads(num_blocks)}

    def outliers(self, tower: ForwardPass) -> Tensor:
        """Return which patches draw most of the class token's attention, (B, N) bool."""
        count = len(tower.blocks)
        block, tokens = tower.blocks[count - 2], tower.states[count - 2]
        q, k, _ = block.projections(tokens)
        # Averaged over the heads after the softmax, so that no head with large scores dominates.
        weights = attention_weights(q, k).mean(1)  # (B, 1 + N, 1 + N)
        from_class, to_itself = weights[:, 0, 1:], weights.diagonal(dim1=1, dim2=2)[:, 1:]  # (B, N)
        candidates = torch.where(ATTENTION_RATIO * from_class > to_itself, from_class, -torch.inf)
        top = candidates.topk(min(MAX_OUTLIERS, candidates.shape[1])).indices
        # isfinite: topk also selects non-candidates if an image has fewer candidates than MAX_OUTLIERS.
        return torch.zeros_like(candidates, dtype=torch.bool).scatter_(1, top, True) & candidates.isfinite()

    def filled(self, patches: Tensor, outliers: Tensor, grid_size: Size) -> Tensor:
        """Return (B, N, C) with outliers replaced by their inlier neighbors' mean, or by 0; see the base class."""
        return fill_outliers(patches, outliers, grid_size)[0]

    def guide(self, similarity: Tensor) -> Tensor:
        """Return softmax(3 (C - mean C)) over the entries above the mean, with dissimilar patches 0 in C, (B, N, N)."""
        return contrast_softmax(keep_similar(similarity))

    def mix(self, projections: Projections, guide: Tensor) -> Tensor:
        """Average the values (B, heads, N, d) by C, keys and queries, a third each; see `SelfCalibration.mix`."""
        q, k, v = projections
        return (apply_weights(v, guide) + attend(k, k, v) + attend(q, q, v)) / 3

    def mix_again(self, projections: Projections, guide: Tensor) -> Tensor:
        """Average the values (B, heads, N, d) by C only; see `SelfCalibration.mix_again`."""
        return apply_weights(projections[2], guide)
