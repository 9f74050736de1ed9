"""Base class of SC-CLIP and SFP: outliers are replaced, and patches are grouped by similarity in middle blocks."""

from collections.abc import Callable, Collection

from torch import Tensor

from openvocab.backbones.readouts.base import ForwardPass, Readout
from openvocab.backbones.readouts.similarity import aggregate, cosines, keep_similar
from openvocab.layers.clip_attention import Projections
from openvocab.structures import Size

DEPTH = 12
"""Number of blocks of the towers that the block numbers below are published for."""
CLASS_WEIGHT = 0.3
"""Weight of the class token that is added to every patch."""

Mix = Callable[[Projections, Tensor], Tensor]


class SelfCalibration(Readout):
    """The algorithm of SC-CLIP and SFP, where f_i is the output of block i of 12.

    Nothing is published for towers of another depth; there f_11 is the input of the last block, and the other blocks
    are at the same fraction of the depth.

    1. Outliers among the patches of f_11 are replaced from their neighbors, which gives y; the same patches of f_9 are
       replaced too, which gives R.
    2. C are the cosines of R; y is averaged over the patches that are similar in C.
    3. The last attention averages y by C and by its own keys; no residual connection, no feed-forward network.
    4. Patches that are similar in f_4 are averaged.
    5. Steps 3 and 4 are repeated for f_4 + ... + f_10 instead of y; the result is the sum of both.
    """

    needs_class_token = True

    def reads(self, num_blocks: int) -> Collection[int]:
        """Require f_4 to f_11."""
        return range(_scaled_block(4, num_blocks), num_blocks)

    def outliers(self, tower: ForwardPass) -> Tensor:
        """Return which patches are outliers, (B, N) bool."""
        raise NotImplementedError

    def filled(self, patches: Tensor, outliers: Tensor, grid_size: Size) -> Tensor:
        """Return the patches (B, N, C) with the outliers (B, N) bool replaced, in the same shape."""
        raise NotImplementedError

    def guide(self, similarity: Tensor) -> Tensor:
        """Return the attention weights (B, N, N) from the cosines C (B, N, N)."""
        raise NotImplementedError

    def mix(self, projections: Projections, guide: Tensor) -> Tensor:
        """Return the averaged values (B, heads, N, d) of the last attention, given the weights `guide` (B, N, N)."""
        raise NotImplementedError

    def mix_again(self, projections: Projections, guide: Tensor) -> Tensor:
        """Return the averaged values (B, heads, N, d) of the second pass, step 5, given `guide` (B, N, N)."""
        raise NotImplementedError

    def patches(self, tower: ForwardPass) -> Tensor:
        """Return the sum (B, h * w, C) of both passes; see `Readout.patches`."""
        count = len(tower.blocks)
        low, middle, high = (_scaled_block(block, count) for block in (4, 9, 10))
        # Step 1: the outliers of f_11 are also those that are replaced in f_9.
        outliers = self.outliers(tower)
        entering = self.filled(tower.entering[:, 1:], outliers, tower.grid_size)
        similarity = cosines(self.filled(tower.states[middle][:, 1:], outliers, tower.grid_size))  # (B, N, N)
        # Step 3 gets all entries of C, of which SFP drops the small ones itself; step 2 averages similar patches only.
        guide = self.guide(similarity)
        low_similarity = keep_similar(cosines(tower.states[low][:, 1:]))

        entering = aggregate(entering, keep_similar(similarity))
        first = _attend(tower, entering, tower.entering, self.mix, guide)
        # Step 5: f_4 + ... + f_10, which still have their outliers.
        states = [tower.states[block] for block in range(low, high + 1)]
        levels = sum(states, start=states[0].new_zeros(()))  # (B, 1 + N, C)
        second = _attend(tower, levels[:, 1:], levels, self.mix_again, guide)
        return aggregate(first, low_similarity) + aggregate(second, low_similarity)


def apply_weights(values: Tensor, weights: Tensor) -> Tensor:
    """Average values (B, heads, N, d) with weights (B, N, N) that all heads share; return the shape of the values."""
    return weights[:, None].to(values.dtype) @ values  # (B, 1, N, N) @ (B, heads, N, d)


def _attend(tower: ForwardPass, patches: Tensor, tokens: Tensor, mix: Mix, guide: Tensor) -> Tensor:
    """Run the last attention on the patches (B, N, C), and add the weighted class token of `tokens` (B, 1 + N, C)."""
    last = tower.blocks[-1]
    # Without the class token: it takes part in no average of step 3 and is added afterwards.
    return last.output(mix(last.projections(patches), guide)) + CLASS_WEIGHT * tokens[:, :1]


def _scaled_block(block: int, num_blocks: int) -> int:
    """Return the block at the same fraction of the depth as `block` of 12, before the last block."""
    return min(max(1, round(block * num_blocks / DEPTH)), num_blocks - 1)
