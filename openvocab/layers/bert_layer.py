"""A layer of BERT, whose norms follow the residual sums."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCORE_LIMIT = 50000.0
"""Scores are clamped to +- this, as in GLIP, so that those of float16 stay finite."""
EPS = 1e-12


class BERTLayer(nn.Module):
    """Self-attention and a feed-forward network with exact GELU, each with a residual sum and a norm after it.

    Args:
        dim: D of the tokens.
        heads: number of heads.
        mlp_ratio: width of the feed-forward network, in units of D.
        dropout: of the attention maps and of both branches, in training.

    Raises:
        ValueError: `heads` does not divide `dim`.

    Reference: arXiv 1810.04805.
    """

    def __init__(self, dim: int = 768, heads: int = 12, mlp_ratio: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads: {heads} does not divide dim {dim}")
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.out, self.attention_norm = nn.Linear(dim, dim), nn.LayerNorm(dim, EPS)
        self.fc1, self.fc2 = nn.Linear(dim, mlp_ratio * dim), nn.Linear(mlp_ratio * dim, dim)
        self.out_norm = nn.LayerNorm(dim, EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, text: Tensor, is_token: Tensor) -> Tensor:
        """Map tokens (B, T, D) to the same shape; `is_token` (B, T) is False for padding, which no token reads."""
        text = self.attention_norm(text + self.dropout(self.out(self._attend(text, is_token))))
        return self.out_norm(text + self.dropout(self.fc2(F.gelu(self.fc1(text)))))

    def _attend(self, text: Tensor, is_token: Tensor) -> Tensor:
        query, key, value = (self._split(project(text)) for project in (self.query, self.key, self.value))
        # plain, since a prompt has a few hundred tokens, and since scores are clamped before padding is excluded
        scores = ((query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)).clamp(-SCORE_LIMIT, SCORE_LIMIT)
        attention = scores.masked_fill(~is_token[:, None, None], torch.finfo(scores.dtype).min).softmax(-1)
        return (self.dropout(attention) @ value).transpose(1, 2).flatten(2)  # (B, T, D)

    def _split(self, values: Tensor) -> Tensor:
        """Split (B, T, D) to (B, heads, T, d)."""
        return values.unflatten(2, (self.heads, -1)).transpose(1, 2)
