"""GroupViT's grouping block: every token is given to exactly one group, and each group becomes one new token.

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
    """Groups look at tokens: attention and an MLP, each added to its input, then a norm. Inputs are normalized already.

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
        """Return groups (B, G, C) that have looked at tokens (B, N, C)."""
        groups = groups + self._attend(groups, tokens)
        groups = groups + self.mlp(self.norm(groups))
        return self.norm_out(groups)

    def _attend(self, groups: Tensor, tokens: Tensor) -> Tensor:
        query, key, value = (
            project(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, ., C / heads)
            for project, x in ((self.query, groups), (self.key, tokens), (self.value, tokens))
        )
        return self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Assignment(nn.Module):
    """One-headed attention whose softmax runs over the groups, made hard: every token belongs to one group.

    In training the hard choice is drawn (Gumbel noise, temperature 1), at test it is the most likely group; gradients
    go through the soft map (straight-through) in both.

    Args:
        dim: C.
        epsilon: added to the number of tokens of a group before its mean is taken; 1 as in the official code, so that
            small groups make short tokens and an empty one makes zero.
    """

    def __init__(self, dim: int, epsilon: float = 1.0) -> None:
        super().__init__()
        self.scale = dim**-0.5
        self.epsilon = epsilon
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim)

    def forward(self, groups: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Gather tokens (B, N, C) by group.

        Returns:
            new tokens (B, G, C), and the soft map (B, G, N) without noise, float32; its columns sum to one.
        """
        logits = self._logits(self.query(groups), self.key(tokens))  # (B, G, N)
        soft = logits.softmax(dim=1)
        choice = self._choose(logits, soft)
        share = choice / (choice.sum(dim=2, keepdim=True) + self.epsilon)  # (B, G, N)
        value = self.value(tokens)
        return self.out(share.to(value.dtype) @ value), soft

    def _logits(self, query: Tensor, key: Tensor) -> Tensor:
        return (query * self.scale @ key.transpose(1, 2)).float()

    def _choose(self, logits: Tensor, soft: Tensor) -> Tensor:
        if self.training:
            return F.gumbel_softmax(logits, hard=True, dim=1)
        return _one_hot(soft) if not soft.requires_grad else _one_hot(soft) - soft.detach() + soft


class SoftAssignment(Assignment):
    """Our addition: every token is shared by the groups, in training and at test, by a softmax of scaled cosines.

    Hard choices learn slowly: at first they are noise, and a group hears only of the tokens it happened to get. Shares
    let every group hear of every token; the scale makes them uneven from the first step on.

    Args:
        dim, epsilon: see `Assignment`.
        scale: multiplier of the cosines.
    """

    def __init__(self, dim: int, scale: float, epsilon: float = 1.0) -> None:
        super().__init__(dim, epsilon)
        self.scale = scale

    def _logits(self, query: Tensor, key: Tensor) -> Tensor:
        query, key = F.normalize(query.float(), dim=-1), F.normalize(key.float(), dim=-1)
        return self.scale * query @ key.transpose(1, 2)

    def _choose(self, logits: Tensor, soft: Tensor) -> Tensor:
        return soft


class GroupingBlock(nn.Module):
    """Turn N tokens and G group tokens into one new token a group.

    Args:
        dim: C.
        num_groups: G.
        num_heads: of the cross attention.
        mlp_ratio: of the MLPs over channels; the mixer over groups is `dim / 2` wide.
        soft_scale: where given, tokens are shared by `SoftAssignment` of this scale.
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
        """Return the new tokens (B, G, C) and the soft assignment (B, G, N); see `Assignment`."""
        tokens = self.norm_tokens(tokens)
        groups = self.norm_mixed(self.mix_groups(self.norm_groups(groups)))
        groups = self.look(groups, tokens)
        new, soft = self.assign(groups, tokens)
        new = new + groups
        return new + self.mlp(self.norm_new(new)), soft


def _one_hot(soft: Tensor) -> Tensor:
    """Return (B, G, N) with a one at the largest entry of each column."""
    return torch.zeros_like(soft).scatter_(1, soft.argmax(dim=1, keepdim=True), 1.0)
