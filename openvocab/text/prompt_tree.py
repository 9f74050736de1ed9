"""Prompts that begin alike: in a causal tower their common beginning is computed once.

"a photo of a cat." and "a photo of a dog." have the same first tokens, and no later token reaches these. So the tokens
of many prompts form a tree, and all that works on single tokens (projections, norms, feed-forward) runs on its nodes.
Only attention, at these lengths a hundredth of the work, runs on whole prompts.
"""

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, TextTransformer
from torch import Tensor

from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import finish_block, project_output

FEWEST_ROWS = 64
"""The nodes are filled up to this: matrix products of few rows use other kernels, whose last bits differ."""


class PromptTree:
    """The distinct beginnings of some prompts of one length.

    Args:
        tokens: (n, L) ids, end token last, in an order that puts equal beginnings side by side (`similar_first`).
    """

    def __init__(self, tokens: Tensor) -> None:
        new = torch.ones_like(tokens, dtype=torch.bool)
        new[1:] = (tokens[1:] != tokens[:-1]).cumsum(1) > 0  # (n, L) no earlier prompt begins with these tokens
        number = new.flatten().cumsum(0).view_as(tokens) - 1
        self.node = number.masked_fill(~new, 0).cummax(0).values  # (n, L) node of each token
        first = new.flatten().nonzero().flatten()
        filling = first[-1:].expand(max(0, FEWEST_ROWS - len(first)))
        self.first = torch.cat([first, filling])  # (M,) where each node is met first, in the flat (n * L) tokens
        self.ids = tokens.flatten()[self.first]  # (M,)
        self.position = self.first % tokens.shape[1]  # (M,)

    def spread(self, nodes: Tensor) -> Tensor:
        """Give every token of every prompt the value of its node: (M, C) to (n, L, C)."""
        return nodes[self.node.flatten()].view(*self.node.shape, -1)

    def gather(self, tokens: Tensor) -> Tensor:
        """Give every node the value of one of its tokens, which are all equal: (n, L, C) to (M, C)."""
        return tokens.flatten(0, 1)[self.first]


def similar_first(tokens: Tensor) -> Tensor:
    """Return the order (n,) that sorts prompts (n, L) by their first token, then by the second, and so on."""
    return torch.from_numpy(np.lexsort(tokens.numpy().T[::-1]))


def has_plain_blocks(tower: TextTransformer) -> bool:
    """Say whether the blocks are of the kind that can be taken apart, and not recomputed in the backward pass."""
    transformer = tower.transformer
    plain = all(isinstance(block, ResidualAttentionBlock) for block in transformer.resblocks)
    return plain and not transformer.grad_checkpointing


def encode_tree(tower: TextTransformer, tree: PromptTree) -> Tensor:
    """Return what leaves the last block at the end token of each prompt, (n, width), before the final norm."""
    dtype = tower.transformer.get_cast_dtype()
    positions = tower.positional_embedding[tree.position].to(dtype)
    nodes = tower.token_embedding(tree.ids).to(dtype) + positions  # (M, width)
    length = tree.node.shape[1]
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        q, k, v = _project(block, nodes, tree)
        mixed = attend(q, k, v, tower.attn_mask[:length, :length].to(q.dtype))  # (n, heads, L, d)
        mixed = tree.gather(mixed.transpose(1, 2).flatten(2))  # (M, width)
        nodes = finish_block(block, nodes, block.attn.out_proj(mixed))
    q, k, v = _project(last, nodes, tree)
    mixed = attend(q[:, :, -1:], k, v)  # (n, heads, 1, d): the end token sees the whole prompt, and nobody sees others
    ends = nodes[tree.node[:, -1:]]  # (n, 1, width)
    return finish_block(last, ends, project_output(last.attn, mixed))[:, 0]


def _project(block: ResidualAttentionBlock, nodes: Tensor, tree: PromptTree) -> tuple[Tensor, Tensor, Tensor]:
    """Project the nodes, and return q, k, v of whole prompts, (n, heads, L, d) each."""
    attention = block.attn
    packed = F.linear(block.ln_1(nodes), attention.in_proj_weight, attention.in_proj_bias)  # (M, 3 * width)
    return tree.spread(packed).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
