"""The parts of a CLIP tower's attention: projection to q, k and v, mixing, output projection.

Heads and training-free readouts use these functions, so they need not know whether a tower packs its projections
(open_clip's ViT) or keeps three layers (the attention pool of its ResNets). The layout is always
(B, heads, N, C / heads), prefix tokens first.
"""

from typing import TypeAlias

import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from openvocab.layers.attention import attend
from openvocab.layers.packed_linear import PackedSelfAttention

Projections = tuple[Tensor, Tensor, Tensor]
"""q, k and v, (B, heads, N, C / heads) each."""
Attention: TypeAlias = nn.MultiheadAttention | PackedSelfAttention | AttentionPool2d


def project_qkv(attention: Attention, tokens: Tensor) -> Projections:
    """Return q, k and v, (B, heads, N, C / heads) each.

    Args:
        attention: `nn.MultiheadAttention` with packed projections, the `PackedSelfAttention` that replaces it for
            prediction, or open_clip's `AttentionPool2d`.
        tokens: (B, N, C), after the norm of the block.
    """
    if isinstance(attention, AttentionPool2d):
        layers = (attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (_split_heads(layer(tokens), attention.num_heads) for layer in layers)
        return q, k, v
    if isinstance(attention, nn.MultiheadAttention):
        packed = F.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
    else:
        packed = attention.in_proj(tokens)
    # q, k and v are concatenated in this order, and each is a concatenation of heads.
    q, k, v = packed.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    return q, k, v


def project_output(attention: Attention, mixed: Tensor) -> Tensor:
    """Join the heads of `mixed` (B, heads, N, C / heads) and apply the output projection: (B, N, C or D)."""
    layer = attention.c_proj if isinstance(attention, AttentionPool2d) else attention.out_proj
    return layer(mixed.transpose(1, 2).flatten(2))  # (B, N, C or D)


def run_block(block: ResidualAttentionBlock, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
    """Run a pre-norm block of open_clip as its own forward does, with the attention of `attend`.

    Args:
        block: a block of an image or text tower.
        tokens: (B, N, C).
        bias: (N, N) or (B, 1, 1, N), added to the scores: the causal mask of a text tower, or its padding mask.

    Returns:
        (B, N, C).
    """
    q, k, v = project_qkv(block.attn, block.ln_1(tokens))
    # The fused kernel requires a bias of the queries' dtype, which autocast may have lowered.
    bias = None if bias is None else bias.to(q.dtype)
    return finish_block(block, tokens, project_output(block.attn, attend(q, k, v, bias)))


def finish_block(block: ResidualAttentionBlock, tokens: Tensor, attended: Tensor) -> Tensor:
    """Add the attention's output to the residual stream and run the feed-forward network of the block.

    Args:
        block: an open_clip block.
        tokens: (B, N, C) before the attention.
        attended: (B, N, C) output of the attention, projected.

    Returns:
        (B, N, C).
    """
    tokens = tokens + block.ls_1(attended)
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def _split_heads(projected: Tensor, heads: int) -> Tensor:
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, N, C / heads)
