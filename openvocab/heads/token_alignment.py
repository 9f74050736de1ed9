"""The logit of every location for every token of a text."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PRIOR = 0.01
"""Score of all pairs before training."""
LARGEST_LOGIT = 50000.0
"""Within the range of float16."""


class TokenAlignment(nn.Module):
    """Dot products of locations with projected tokens, divided by a learned temperature, with a bias of each token.

    Args:
        dim: channels of the locations.
        text_dim: channels of the tokens.

    Reference: GLIP, arXiv 2112.03857, section 3.1; as in the official code, tokens are normalized and halved before the
    projection, and locations are not normalized.
    """

    def __init__(self, dim: int, text_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(text_dim, dim)
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.token_bias = nn.Parameter(torch.zeros(text_dim))
        # with this bias the many negatives do not dominate the first steps of a focal loss
        self.bias = nn.Parameter(torch.full((1,), -math.log((1 - PRIOR) / PRIOR)))

    def forward(self, locations: Tensor, tokens: Tensor) -> Tensor:
        """Return the logits (B, N, T) float32 of locations (B, N, dim) and tokens (B, T, text_dim).

        The arguments may also be one without B, or have one image or one text for all.
        """
        with torch.autocast(locations.device.type, enabled=False):
            tokens = F.normalize(tokens.float(), dim=-1)
            # the weights may be of another dtype, in a model that only predicts
            projected = F.linear(tokens / 2, self.project.weight.float(), self.project.bias.float())  # (B, T, dim)
            biases = tokens @ self.token_bias.float() + self.bias.float()  # (B, T)
            logits = locations.float() @ projected.transpose(-1, -2) / self.log_scale.float().exp()  # (B, N, T)
            return (logits + biases.unsqueeze(-2)).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
