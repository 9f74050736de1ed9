"""Attention pools with learned queries by their parts: SigLIP's and PE's, and CoCa's.

A pool averages the values of all tokens with one set of weights per head, projects the average, and finishes it by
layers that are not linear (norm, feed-forward network). Two dense embeddings follow from it:

- `alone`: what the pool would return if a token were its only one, which is its value, projected and finished.
- `shares`: how much each token adds to the pooled embedding, at the scale of an embedding. They are defined so that
  their mean with the weights of the pool is the pooled embedding exactly: the layers that are not linear act on every
  share as the linear map that they are for the pooled average.
"""

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from timm.layers import AttentionPoolLatent
from torch import Tensor, nn

from openvocab.layers.attention import attend


class AttentionPool:
    """A pool of tokens (B, N, C) by one learned query, and the layers after it, up to the joint space of D channels."""

    def query_keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the query (B, heads, 1, d), and the keys and the values (B, heads, N, d) of all tokens."""
        raise NotImplementedError

    def output(self, mixed: Tensor) -> Tensor:
        """Join the heads of mixed values (B, heads, M, d) and project them, (B, M, P)."""
        raise NotImplementedError

    def finish(self, averages: Tensor) -> Tensor:
        """Map projected averages (B, M, P) to the joint space, (B, M, D)."""
        raise NotImplementedError

    def finish_linearly(self, parts: Tensor, average: Tensor) -> Tensor:
        """Map parts (B, M, P) of an average (B, 1, P) to the joint space, (B, M, D), by an affine map.

        At the average itself, it is equal to `finish`.
        """
        raise NotImplementedError

    def pooled(self, tokens: Tensor) -> Tensor:
        """Return the pooled embedding (B, D)."""
        return self.finish(self.output(attend(*self.query_keys_values(tokens))))[:, 0]

    def alone(self, tokens: Tensor) -> Tensor:
        """Return the embedding of each token as if it were the only one, (B, N, D)."""
        return self.finish(self.output(self.query_keys_values(tokens)[2]))

    def weights(self, tokens: Tensor) -> Tensor:
        """Return the weight of each token in the pooled embedding, the mean over the heads, (B, N) float32."""
        query, keys, _ = self.query_keys_values(tokens)
        return _scores(query, keys).softmax(-1).mean(1)

    def shares(self, tokens: Tensor) -> Tensor:
        """Return the share of each token in the pooled embedding, (B, N, D); their mean by `weights` is `pooled`."""
        query, keys, values = self.query_keys_values(tokens)
        # The weights of the heads over their mean, from logarithms: a token that no head attends to is no 0 / 0.
        relative = len(query[0]) * _scores(query, keys).log_softmax(-1).softmax(1)  # (B, heads, N)
        parts = self.output(relative[..., None].to(values.dtype) * values)  # (B, N, P)
        return self.finish_linearly(parts, self.output(attend(query, keys, values)))


class LatentPool(AttentionPool):
    """Timm's pool, "map", of SigLIP and PE: y + ffn(norm(y)) after the output projection, then the heads.

    Args:
        pool: the pool; it is not changed.
        head: the layers after it, which must be linear.
    """

    def __init__(self, pool: AttentionPoolLatent, head: nn.Module) -> None:
        is_known = pool.latent_len == 1 and pool.pos_embed is None and pool.mlp is not None
        is_known = is_known and isinstance(pool.norm, (nn.LayerNorm, nn.Identity))
        if not is_known or not isinstance(pool.mlp.norm, nn.Identity):
            raise ValueError(
                "its attention pool is of a kind without a reader (several queries, positions, other norms)"
            )
        self.pool: Any = pool
        self.head = head

    def query_keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `AttentionPool.query_keys_values`."""
        pool = self.pool
        query = pool.q(pool.latent).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)  # (1, heads, 1, d)
        keys, values = pool.kv(tokens).unflatten(-1, (2, pool.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        return pool.q_norm(query).expand(len(tokens), -1, -1, -1), pool.k_norm(keys), values

    def output(self, mixed: Tensor) -> Tensor:
        """See `AttentionPool.output`."""
        return self.pool.proj_drop(self.pool.proj(mixed.transpose(1, 2).flatten(2)))

    def finish(self, averages: Tensor) -> Tensor:
        """See `AttentionPool.finish`."""
        return self.head(averages + self.pool.mlp(self.pool.norm(averages)))

    def finish_linearly(self, parts: Tensor, average: Tensor) -> Tensor:
        """See `AttentionPool.finish_linearly`."""
        mlp = self.pool.mlp
        before = mlp.fc1(self.pool.norm(average))  # (B, 1, hidden)
        # The activation is a factor of each hidden channel; where that is 0 / 0, any factor is exact.
        gates = torch.where(before == 0, 0.5, mlp.act(before) / before)
        hidden = gates * mlp.fc1(_norm_at(self.pool.norm, parts, average))
        return self.head(parts + mlp.fc2(hidden))


class QueryPool(AttentionPool):
    """open_clip's pool of CoCa, whose first query is that of the embedding, then norm and projection.

    Args:
        visual: the tower with the pool, and the norm and the projection after it; it is not changed.
    """

    def __init__(self, visual: VisionTransformer) -> None:
        self.visual: Any = visual

    def query_keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `AttentionPool.query_keys_values`."""
        pool = self.visual.attn_pool
        attention = pool.attn
        if attention.in_proj_weight is not None:
            weights = attention.in_proj_weight.chunk(3)
        else:  # keys and values have another width than the query
            weights = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
        biases = attention.in_proj_bias.chunk(3)
        context = pool.ln_k(tokens)
        inputs = (pool.ln_q(pool.query[:1])[None], context, context)
        query, keys, values = (
            F.linear(x, weight, bias).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip(inputs, weights, biases)
        )
        return query.expand(len(tokens), -1, -1, -1), keys, values

    def output(self, mixed: Tensor) -> Tensor:
        """See `AttentionPool.output`."""
        return self.visual.attn_pool.attn.out_proj(mixed.transpose(1, 2).flatten(2))

    def finish(self, averages: Tensor) -> Tensor:
        """See `AttentionPool.finish`."""
        return self.visual.ln_post(averages) @ self.visual.proj

    def finish_linearly(self, parts: Tensor, average: Tensor) -> Tensor:
        """See `AttentionPool.finish_linearly`."""
        return _norm_at(self.visual.ln_post, parts, average) @ self.visual.proj


def _scores(query: Tensor, keys: Tensor) -> Tensor:
    """Return s q kT for a query (B, heads, 1, d) and keys (B, heads, N, d), (B, heads, N) float32."""
    return (query.float() @ keys.float().transpose(2, 3))[:, :, 0] * query.shape[-1] ** -0.5


def _norm_at(norm: nn.Module, parts: Tensor, average: Tensor) -> Tensor:
    """Apply a layer norm to parts (B, M, P) with the standard deviation of their average (B, 1, P)."""
    if not isinstance(norm, nn.LayerNorm):
        return norm(parts)  # no norm
    scale = (average.var(-1, correction=0, keepdim=True) + norm.eps).rsqrt()
    normed = (parts - parts.mean(-1, keepdim=True)) * scale
    normed = normed if norm.weight is None else normed * norm.weight
    return normed if norm.bias is None else normed + norm.bias
