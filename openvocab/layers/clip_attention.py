"""The attention of CLIP towers in its parts: q, k, v, mixing and output projection, one layout for every tower.

Heads and training-free readouts work on these parts and never see whether a tower packs its projections (open_clip's
ViT) or keeps them apart (the attention pool of its ResNets). Layout: (B, heads, N, C / heads), prefix tokens first.
"""

import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from openvocab.layers.attention import attend

Projections = tuple[Tensor, Tensor, Tensor]


def project_qkv(attention: nn.Module, tokens: Tensor) -> Projections:
    """Return q, k, v, each (B, heads, N, C / heads).

    Args:
        attention: `nn.MultiheadAttention` with packed projections, the `PackedSelfAttention` that replaces it for
            prediction, or open_clip's `AttentionPool2d`.
        tokens: (B, N, C), already normalized by the block.
    """
    if isinstance(attention, AttentionPool2d):
        layers = (attention.q_proj, attention.k_proj, attention.v_proj)
        return tuple(_split_heads(layer(tokens), attention.num_heads) for layer in layers)
    if isinstance(attention, nn.MultiheadAttention):
        packed = F.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
    else:
        packed = attention.in_proj(tokens)
    return packed.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def project_output(attention: nn.Module, mixed: Tensor) -> Tensor:
    """Join the heads of `mixed` (B, heads, N, C / heads) and apply the output projection: (B, N, C or D)."""
    layer = attention.c_proj if isinstance(attention, AttentionPool2d) else attention.out_proj
    return layer(mixed.transpose(1, 2).flatten(2))


def run_block(block: ResidualAttentionBlock, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
    """Run a pre-norm block of open_clip on (B, N, C), as the block itself would, with the faster attention.

    `bias`, (N, N) or (B, 1, 1, N), is added to the scores: the causal mask of a text tower, or that of its padding.
    """
    q, k, v = project_qkv(block.attn, block.ln_1(tokens))
    bias = None if bias is None else bias.to(q.dtype)
    return finish_block(block, tokens, project_output(block.attn, attend(q, k, v, bias)))


def finish_block(block: ResidualAttentionBlock, tokens: Tensor, attended: Tensor) -> Tensor:
    """Add the residual of `tokens` to the `attended` ones and run the feed-forward half of the block."""
    tokens = tokens + block.ls_1(attended)
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def _split_heads(projected: Tensor, heads: int) -> Tensor:
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, N, C / heads)
