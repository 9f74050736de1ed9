"""What SC-CLIP and SFP share: outliers are filled up, and mid-depth similarity says which patches belong together."""

from collections.abc import Callable, Collection

from torch import Tensor

from openvocab.backbones.readouts.base import ForwardPass, Readout
from openvocab.backbones.readouts.similarity import aggregate, alike, cosines
from openvocab.layers.clip_attention import Projections, project_output, project_qkv
from openvocab.structures import Size

DEPTH = 12
"""Of the towers that the places below are published for."""
CLASS_SHARE = 0.3
"""Of the class token that is added to every patch."""


Mix = Callable[[Projections, Tensor], Tensor]


class SelfCalibration(Readout):
    """The course of SC-CLIP and SFP, with f_i the output of block i of 12.

    Nothing is published for towers of another depth; there f_11 enters the last block, and the others lie at the same
    share of the depth.

    1. Outliers among the patches of f_11 are filled up from their neighbors, in f_9 too: y and R.
    2. C are the cosines of R; y becomes its mean over the patches that are alike in C.
    3. The last attention mixes y by C and by its own keys; no residual, no feed-forward half.
    4. Patches that are alike in f_4 are averaged.
    5. The same for f_4 + ... + f_10 instead of y; the sum of both is the result.
    """

    def reads(self, num_blocks: int) -> Collection[int]:
        """Read f_4 to f_10, and f_11."""
        return range(_place(4, num_blocks), num_blocks)

    def outliers(self, tower: ForwardPass) -> Tensor:
        """Return which patches stand apart from all others, (B, N) bool."""
        raise NotImplementedError

    def filled(self, patches: Tensor, outliers: Tensor, grid_size: Size) -> Tensor:
        """Return the patches (B, N, C) with outliers replaced."""
        raise NotImplementedError

    def guide(self, similarity: Tensor) -> Tensor:
        """Return the weights (B, N, N) that the cosines C (B, N, N) give the last attention."""
        raise NotImplementedError

    def mix(self, projections: Projections, guide: Tensor) -> Tensor:
        """Return the mixed values (B, heads, N, d) of the last attention."""
        raise NotImplementedError

    def mix_again(self, projections: Projections, guide: Tensor) -> Tensor:
        """Return the mixed values of the second pass."""
        raise NotImplementedError

    def patches(self, tower: ForwardPass) -> Tensor:
        """See `Readout.patches`."""
        count = len(tower.blocks)
        low, middle, high = (_place(place, count) for place in (4, 9, 10))
        outliers = self.outliers(tower)
        entering = self.filled(tower.entering[:, 1:], outliers, tower.grid_size)
        similarity = cosines(self.filled(tower.states[middle][:, 1:], outliers, tower.grid_size))
        guide = self.guide(similarity)
        near = alike(cosines(tower.states[low][:, 1:]))

        entering = aggregate(entering, alike(similarity))
        first = _attended(tower, entering, tower.entering, self.mix, guide)
        levels = sum(tower.states[place] for place in range(low, high + 1))
        second = _attended(tower, levels[:, 1:], levels, self.mix_again, guide)
        return aggregate(first, near) + aggregate(second, near)


def guided(values: Tensor, guide: Tensor) -> Tensor:
    """Mix values (B, heads, N, d) by weights (B, N, N) that all heads share."""
    return guide[:, None].to(values.dtype) @ values


def _attended(tower: ForwardPass, patches: Tensor, tokens: Tensor, mix: Mix, guide: Tensor) -> Tensor:
    """Run the last attention on the patches alone, and add a share of the class token of `tokens`."""
    last = tower.blocks[-1]
    projections = project_qkv(last.attn, last.ln_1(patches))
    return project_output(last.attn, mix(projections, guide)) + CLASS_SHARE * tokens[:, :1]


def _place(place: int, num_blocks: int) -> int:
    """Return where block `place` of 12 lies in a tower of another depth, before its last block."""
    return min(max(1, round(place * num_blocks / DEPTH)), num_blocks - 1)
