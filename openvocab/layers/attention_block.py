"""A transformer block by its parts: projection to q, k and v, mixing, output projection, feed-forward network.

Readouts compute with these parts, so they need not know which library a tower comes from, whether it packs its
projections, or whether its queries and keys are rotated. The layout is always (B, heads, N, d), prefix tokens first.
"""

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from timm.layers import apply_rot_embed_cat
from timm.models.eva import EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import Projections, finish_block, project_output, project_qkv
from openvocab.layers.packed_linear import PackedSelfAttention


class AttentionBlock:
    """A residual block of self-attention and a feed-forward network, seen by its parts."""

    def projections(self, tokens: Tensor) -> Projections:
        """Return q, k and v, (B, heads, N, d) each, of tokens (B, N, C) that enter the block."""
        raise NotImplementedError

    def output(self, mixed: Tensor) -> Tensor:
        """Join the heads of mixed values (B, heads, N, d) and project them, (B, N, C)."""
        raise NotImplementedError

    def finish(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """Return the output (B, N, C) of the block.

        Args:
            tokens: (B, N, C) that enter the block.
            attended: (B, N, C), the result of `output`.
        """
        raise NotImplementedError

    def __call__(self, tokens: Tensor) -> Tensor:
        """Run the whole block on tokens (B, N, C)."""
        return self.finish(tokens, self.output(attend(*self.projections(tokens))))


class CLIPBlock(AttentionBlock):
    """A plain pre-norm block of open_clip.

    Args:
        block: the block; it is not changed.
    """

    def __init__(self, block: ResidualAttentionBlock) -> None:
        self.block = block

    def projections(self, tokens: Tensor) -> Projections:
        """See `AttentionBlock.projections`."""
        return project_qkv(self.block.attn, self.block.ln_1(tokens))

    def output(self, mixed: Tensor) -> Tensor:
        """See `AttentionBlock.output`."""
        return project_output(self.block.attn, mixed)

    def finish(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """See `AttentionBlock.finish`."""
        return finish_block(self.block, tokens, attended)


class TimmBlock(AttentionBlock):
    """A block of timm's vision transformers: plain, or EVA's with rotary positions, before or after its norms.

    With norms after the branches (EVA02-E), `output` includes the norm, so that it is what the residual stream gains.

    Args:
        block: the block; it is not changed.
        rope: rotary embedding (h * w, 2 d) or (heads, h * w, 2 d) of the patches, which are the last h * w tokens;
            default: none.
    """

    def __init__(self, block: nn.Module, rope: Tensor | None = None) -> None:
        self.block: Any = block
        self.rope = rope
        self.norm_after = isinstance(block, EvaBlockPostNorm)

    def projections(self, tokens: Tensor) -> Projections:
        """See `AttentionBlock.projections`; q and k are rotated."""
        attention = self.block.attn
        q, k, v = _timm_qkv(attention, tokens if self.norm_after else self.block.norm1(tokens))
        if not isinstance(attention, PackedSelfAttention):
            q, k = attention.q_norm(q), attention.k_norm(k)
        return self._rotated(q), self._rotated(k), v

    def output(self, mixed: Tensor) -> Tensor:
        """See `AttentionBlock.output`."""
        attention = self.block.attn
        joined = mixed.transpose(1, 2).flatten(2)  # (B, N, heads * d)
        if isinstance(attention, PackedSelfAttention):
            return attention.out_proj(joined)
        projected = attention.proj_drop(attention.proj(attention.norm(joined)))
        return self.block.norm1(projected) if self.norm_after else projected

    def finish(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """See `AttentionBlock.finish`."""
        block = self.block
        tokens = tokens + block.drop_path1(_scaled(block, "1", attended))
        forwarded = block.norm2(block.mlp(tokens)) if self.norm_after else block.mlp(block.norm2(tokens))
        return tokens + block.drop_path2(_scaled(block, "2", forwarded))

    def _rotated(self, heads: Tensor) -> Tensor:
        """Rotate the queries or keys (B, heads, N, d) of the patches."""
        if self.rope is None:
            return heads
        count = heads.shape[2] - self.rope.shape[-2]
        half = getattr(self.block.attn, "rotate_half", False)
        patches = apply_rot_embed_cat(heads[:, :, count:], self.rope, half=half)
        return torch.cat([heads[:, :, :count], patches], dim=2).to(heads.dtype)


def check_timm_blocks(blocks: nn.Module) -> None:
    """Check that `TimmBlock` computes what these blocks do.

    Raises:
        ValueError: blocks of another class, or an attention with gates or shared keys.
    """
    for block in blocks.children():
        attention: Any = getattr(block, "attn", None)
        heads = getattr(attention, "num_heads", None)
        is_plain = type(block) in (Block, EvaBlock, EvaBlockPostNorm) and hasattr(attention, "proj")
        if (
            not is_plain
            or getattr(attention, "gate", None) is not None
            or getattr(attention, "num_kv_heads", heads) != heads
        ):
            raise ValueError(
                f"its blocks ({type(block).__name__}, {type(attention).__name__}) are of a kind without a reader"
            )


def _timm_qkv(attention: Any, tokens: Tensor) -> Projections:
    """Return q, k and v, (B, heads, N, d) each, before their norms; timm has three ways to keep the weights."""
    if isinstance(attention, PackedSelfAttention):
        packed = attention.in_proj(tokens)
    elif attention.qkv is None:  # three layers
        layers = (attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (layer(tokens).unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for layer in layers)
        return q, k, v
    elif getattr(attention, "q_bias", None) is not None:  # one layer, and the biases of q and v
        bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        packed = F.linear(tokens, attention.qkv.weight, bias)
    else:
        packed = attention.qkv(tokens)
    q, k, v = packed.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    return q, k, v


def _scaled(block: Any, branch: str, tokens: Tensor) -> Tensor:
    """Scale the output (B, N, C) of a branch, "1" or "2", as the block does."""
    if hasattr(block, f"ls{branch}"):
        return getattr(block, f"ls{branch}")(tokens)
    scale = getattr(block, f"gamma_{branch}", None)
    return tokens if scale is None else scale * tokens
