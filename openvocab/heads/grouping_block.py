"""GroupViT's grouping block: every token is assigned to exactly one group, and each group becomes one new token.

Reference: GroupViT, arXiv 2202.11094; written from the paper and the published layout of its weights.
"""

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn


class TokenMixer(nn.Module):
    """An MLP over the token axis: (B, N, C) to (B, M, C).

    Args:
        num_in, hidden_dim, num_out: N, width of the hidden layer, M.
    """

    def __init__(self, num_in: int, hidden_dim: int, num_out: int) -> None:
        super().__init__()
        self.mlp = Mlp(num_in, hidden_dim, num_out)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix (B, N, C) to (B, M, C)."""
        return self.mlp(tokens.transpose(1, 2)).transpose(1, 2)


class CrossAttention(nn.Module):
    """Groups attend to tokens: attention and an MLP with residual connections, then a norm; inputs are normalized.

    Args:
        dim: C.
        num_heads: attention heads.
        mlp_ratio: hidden width of the MLP over C.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(mlp_ratio * dim))
        self.norm_out = nn.LayerNorm(dim)

    def forward(self, groups: Tensor, tokens: Tensor) -> Tensor:
        """Return groups (B, G, C) that have attended to tokens (B, N, C)."""
        groups = groups + self._attend(groups, tokens)
        groups = groups + self.mlp(self.norm(groups))
        return self.norm_out(groups)

    def _attend(self, groups: Tensor, tokens: Tensor) -> Tensor:
        """Return the attention (B, G, C) of groups (B, G, C) to tokens (B, N, C)."""
        query, key, value = (
            project(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, ., C / heads)
            for project, x in ((self.query, groups), (self.key, tokens), (self.value, tokens))
        )
        return self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))  # (B, G, C)


class Assignment(nn.Module):
    """Single-head attention with a softmax over the groups and a hard assignment: every token belongs to one group.

    In training the group is drawn (Gumbel noise, temperature 1), at test time it is the most likely one; in both cases
    gradients go through the soft assignment (straight-through).

    Args:
        dim: C.
        epsilon: added to the number of tokens of a group when their mean is taken. 1 as in the official code, so that
            small groups become short tokens and an empty one becomes zero.
    """

    def __init__(self, dim: int, epsilon: float = 1.0) -> None:
        super().__init__()
        self.scale = dim**-0.5
        self.epsilon = epsilon
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim)

    def forward(self, groups: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Merge tokens (B, N, C) into groups (B, G, C).

        Returns:
            New tokens (B, G, C), and the soft assignment (B, G, N) float32 without noise; its columns sum to one.
        """
        logits = self._logits(self.query(groups), self.key(tokens))  # (B, G, N)
        # over the groups, which compete for each token; an attention would normalize over the tokens
        soft = logits.softmax(dim=1)
        assigned = self._assign(logits, soft)  # (B, G, N)
        # epsilon also keeps a group without tokens from 0 / 0
        weights = assigned / (assigned.sum(dim=2, keepdim=True) + self.epsilon)  # (B, G, N), of a mean per group
        value = self.value(tokens)
        return self.out(weights.to(value.dtype) @ value), soft

    def _logits(self, query: Tensor, key: Tensor) -> Tensor:
        """Return the logits (B, G, N) float32 of groups (B, G, C) and tokens (B, N, C)."""
        # float32 for the softmax, whose columns are to sum to one
        return (query * self.scale @ key.transpose(1, 2)).float()

    def _assign(self, logits: Tensor, soft: Tensor) -> Tensor:
        """Return the assignment (B, G, N) of tokens to groups; `soft` is the softmax of the logits."""
        if self.training:
            return F.gumbel_softmax(logits, hard=True, dim=1)
        # straight-through: the value is the one-hot assignment, the gradient that of the softmax
        return _one_hot(soft) if not soft.requires_grad else _one_hot(soft) - soft.detach() + soft


class SoftAssignment(Assignment):
    """Our addition: the groups share every token by a softmax of scaled cosines, in training and at test time.

    Hard assignments learn slowly: at first they are noise, and only the tokens that a group happened to get receive its
    gradient. With shares every group and token do; the scale makes the shares uneven from the first step on.

    Args:
        dim, epsilon: see `Assignment`.
        scale: multiplier of the cosines.
    """

    def __init__(self, dim: int, scale: float, epsilon: float = 1.0) -> None:
        super().__init__(dim, epsilon)
        self.scale = scale

    def _logits(self, query: Tensor, key: Tensor) -> Tensor:
        # float32 before the product: the scale multiplies the rounding errors of the cosines
        query, key = F.normalize(query.float(), dim=-1), F.normalize(key.float(), dim=-1)
        return self.scale * query @ key.transpose(1, 2)

    def _assign(self, logits: Tensor, soft: Tensor) -> Tensor:
        return soft


class GroupingBlock(nn.Module):
    """Turn N tokens and G group tokens into one new token per group.

    Args:
        dim: C.
        num_groups: G.
        num_heads: heads of the cross attention.
        mlp_ratio: hidden width of the MLPs over channels, relative to `dim`; the mixer over groups is `dim / 2` wide.
        soft_scale: scale of a `SoftAssignment`; default: the hard `Assignment`.
    """

    def __init__(
        self, dim: int, num_groups: int, num_heads: int, mlp_ratio: float = 4.0, soft_scale: float | None = None
    ) -> None:
        super().__init__()
        self.norm_groups = nn.LayerNorm(dim)
        self.norm_tokens = nn.LayerNorm(dim)
        self.mix_groups = TokenMixer(num_groups, dim // 2, num_groups)
        self.norm_mixed = nn.LayerNorm(dim)
        self.look = CrossAttention(dim, num_heads, mlp_ratio)
        self.assign = Assignment(dim) if soft_scale is None else SoftAssignment(dim, soft_scale)
        self.norm_new = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(mlp_ratio * dim))

    def forward(self, tokens: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Return new tokens (B, G, C) and the soft assignment (B, G, N) of tokens (B, N, C) and groups (B, G, C)."""
        tokens = self.norm_tokens(tokens)
        groups = self.norm_mixed(self.mix_groups(self.norm_groups(groups)))
        groups = self.look(groups, tokens)  # (B, G, C)
        new, soft = self.assign(groups, tokens)
        new = new + groups
        return new + self.mlp(self.norm_new(new)), soft


def _one_hot(soft: Tensor) -> Tensor:
    """Return (B, G, N) with a one at the largest entry of each column."""
    return torch.zeros_like(soft).scatter_(1, soft.argmax(dim=1, keepdim=True), 1.0)
