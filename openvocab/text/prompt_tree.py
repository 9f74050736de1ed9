"""Shared prefixes of prompts: a causal text tower computes each of them once. An exact, faster form of

    tower.transformer(tower.token_embedding(tokens) + tower.positional_embedding[:L], tower.attn_mask[:L, :L])[:, -1]

"a photo of a cat." and "a photo of a dog." start with the same tokens, and under a causal mask no later token affects
their states. The tokens of many prompts therefore form a prefix tree, and everything that works on single tokens
(projections, norms, feed-forward) runs on its nodes. Only attention, about 1 % of the work at these lengths, runs on
whole prompts.

The module is in `text/` rather than `ops/`, because it is built on the attention of `layers/`, which `ops/` must not
import, and only `text_tower.py` uses it.
"""

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, TextTransformer
from torch import Tensor

from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import finish_block, project_output

MIN_NODES = 64
"""The nodes are padded to this number: matrix products of few rows use other kernels, whose last bits differ."""


class PromptTree:
    """The prefix tree of prompts of the same length; a node is a distinct prefix.

    Args:
        tokens: (n, L) ids, end token last, in lexicographic order (see `lexicographic_order`), so that prompts with a
            common prefix are adjacent.
    """

    def __init__(self, tokens: Tensor) -> None:
        # A prefix is new if it differs from that of the prompt before; the order makes one comparison enough.
        is_new = torch.ones_like(tokens, dtype=torch.bool)
        is_new[1:] = (tokens[1:] != tokens[:-1]).cumsum(1) > 0  # (n, L)
        number = is_new.flatten().cumsum(0).view_as(tokens) - 1  # (n, L), numbered row by row
        # Numbers grow down every column, so the running maximum copies a node to the prompts that share it.
        self.node = number.masked_fill(~is_new, 0).cummax(0).values  # (n, L) node of each token
        first = is_new.flatten().nonzero().flatten()
        # Copies of the last node, which no token refers to.
        padding = first[-1:].expand(max(0, MIN_NODES - len(first)))
        self.first = torch.cat([first, padding])  # (M,) first token of each node, as an index into the n * L tokens
        self.ids = tokens.flatten()[self.first]  # (M,)
        self.position = self.first % tokens.shape[1]  # (M,)

    def spread(self, nodes: Tensor) -> Tensor:
        """Copy the values of nodes (M, C) to all their tokens, (n, L, C)."""
        return nodes[self.node.flatten()].view(*self.node.shape, -1)

    def gather(self, tokens: Tensor) -> Tensor:
        """Return the values of nodes (M, C) from those of tokens (n, L, C), which are equal within a node."""
        return tokens.flatten(0, 1)[self.first]


def lexicographic_order(tokens: Tensor) -> Tensor:
    """Return the indices (n,) that sort prompts (n, L) by their first token, then by the second, and so on."""
    # lexsort takes its most important key last, hence the reversed columns.
    return torch.from_numpy(np.lexsort(tokens.numpy().T[::-1]))


def has_plain_blocks(tower: TextTransformer) -> bool:
    """Return whether the blocks are open_clip's plain ones, which can be run in parts, and are not checkpointed."""
    transformer = tower.transformer
    plain = all(isinstance(block, ResidualAttentionBlock) for block in transformer.resblocks)
    return plain and not transformer.grad_checkpointing


def encode_tree(tower: TextTransformer, tree: PromptTree) -> Tensor:
    """Return the output of the last block at the end token of each prompt, (n, width), before the final norm.

    `tree` holds the n prompts, all of length L.
    """
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
    # The last block runs for the end tokens only, which need no mask: they come last and attend to the whole prompt.
    q, k, v = _project(last, nodes, tree)  # (n, heads, L, d) each
    mixed = attend(q[:, :, -1:], k, v)  # (n, heads, 1, d)
    ends = nodes[tree.node[:, -1:]]  # (n, 1, width)
    return finish_block(last, ends, project_output(last.attn, mixed))[:, 0]


def _project(block: ResidualAttentionBlock, nodes: Tensor, tree: PromptTree) -> tuple[Tensor, Tensor, Tensor]:
    """Project nodes (M, width), and return q, k and v of whole prompts, (n, heads, L, d) each."""
    attention = block.attn
    packed = F.linear(block.ln_1(nodes), attention.in_proj_weight, attention.in_proj_bias)  # (M, 3 * width)
    q, k, v = tree.spread(packed).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    return q, k, v
