"""Deep fusion of an image and a text: each reads the other by cross-attention (GLIP's VLFuse)."""

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

SCORE_LIMIT = 50000.0
"""Scores are clamped to +- this, so that those of float16 stay finite."""
SCORES_AT_ONCE = 2**20
"""Scores that are held at once in prediction on a CPU: 4 MB, which stay in its cache."""


class VisionLanguageFusion(nn.Module):
    """Cross-attention in both directions; the two share their scores, and each result is added to the normed input.

    Locations read the text's tokens without its padding. Tokens read all locations of all levels: those of the padding
    of an image take part, as in the official code, so that an image should not be padded more than necessary.

    Three equal ways of computing it: plain formulas, which clamp scores, if a bound on the scores shows that this may
    matter; torch's fused attention; and for prediction on a CPU, where most of the time is spent on projections of
    locations, one pass over the locations with those projections moved to the few tokens (see `_fold`), in float32.

    Args:
        dim: C of the locations.
        text_dim: D of the tokens.
        heads: number of heads.
        head_dim: d of each head.
        gain: initial value of the factors of what is added; official: 1 / number of blocks.
        dropout: of the attention maps, in training.
        drop_path: probability that what is added is left out, in training.

    Reference: GLIP, arXiv 2112.03857.
    """

    def __init__(
        self,
        dim: int = 256,
        text_dim: int = 768,
        heads: int = 8,
        head_dim: int = 256,
        gain: float = 1 / 6,
        dropout: float = 0.1,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.head_dim, self.dropout = heads, head_dim, dropout
        self.vision_norm, self.text_norm = nn.LayerNorm(dim), nn.LayerNorm(text_dim)
        inner = heads * head_dim
        self.query, self.vision_value = nn.Linear(dim, inner), nn.Linear(dim, inner)
        self.key, self.text_value = nn.Linear(text_dim, inner), nn.Linear(text_dim, inner)
        self.vision_out, self.text_out = nn.Linear(inner, dim), nn.Linear(inner, text_dim)
        self.vision_gain = nn.Parameter(torch.full((dim,), float(gain)))
        self.text_gain = nn.Parameter(torch.full((text_dim,), float(gain)))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        for part in (self.query, self.key, self.vision_value, self.text_value, self.vision_out, self.text_out):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)

    def forward(self, vision: Tensor, text: Tensor, is_token: Tensor) -> tuple[Tensor, Tensor]:
        """Let locations and tokens read each other.

        Args:
            vision: (B, N, C), the locations of all levels one after the other.
            text: (B, T, D).
            is_token: (B, T) bool, False for padding; at least one token per text.

        Returns:
            Locations and tokens, in the same shapes.

        Raises:
            ValueError: not one text per image, or a mask of another size.
        """
        if len(text) != len(vision) or is_token.shape != text.shape[:2]:
            raise ValueError(
                f"text: expected one per image, (B, T, D) for {len(vision)} images, and is_token (B, T), got "
                f"{tuple(text.shape)} and {tuple(is_token.shape)}"
            )
        vision, text = self.vision_norm(vision), self.text_norm(text)
        read_text, read_vision = self._attend(vision, text, is_token)  # (B, N, C), (B, T, D)
        vision = vision + self.drop_path(self.vision_gain * read_text)
        return vision, text + self.drop_path(self.text_gain * read_vision)

    def _attend(self, vision: Tensor, text: Tensor, is_token: Tensor) -> tuple[Tensor, Tensor]:
        dropout = self.dropout if self.training else 0.0
        predicts = not torch.is_grad_enabled() and not dropout
        if predicts and vision.device.type == "cpu" and vision.dtype != torch.float64:
            # in float32 whatever the weights are: for so many scores, bfloat16 is slower here, and float16 much slower
            with torch.autocast("cpu", enabled=False):
                keys, biases, values = self._fold(text.float())
                if _stay_below_limit(vision, keys, biases):
                    read_text, read_vision = self._stream(vision.float(), keys, biases, values, is_token)
                    return read_text.to(vision.dtype), read_vision.to(text.dtype)
        query, key = self._split(self.query(vision) * self.head_dim**-0.5), self._split(self.key(text))
        vision_value, text_value = self._split(self.vision_value(vision)), self._split(self.text_value(text))
        mix = _mix if _stay_below_limit(query, key) else _mix_clamped
        mixed_text, mixed_vision = mix(query, key, vision_value, text_value, is_token, dropout)
        return self.vision_out(_join(mixed_text)), self.text_out(_join(mixed_vision))

    def _split(self, values: Tensor) -> Tensor:
        """Split (B, n, heads * d) to (B, heads, n, d)."""
        return values.unflatten(2, (self.heads, self.head_dim)).transpose(1, 2)

    def _fold(self, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move the projections of locations to the tokens (B, T, D).

        With x a location and per head q = W x + b, the score q . k is x . (W^T k) + b . k. And the output projection of
        a weighted sum of values is the weighted sum of projected values.

        Returns:
            Keys (B, heads, T, C) whose product with a location is its score, biases (B, heads, T) of the scores, and
            values (B, heads, T, C) whose weighted sum over tokens and heads is the output.
        """
        key = self._split(_project(self.key, text)) * self.head_dim**-0.5
        value = self._split(_project(self.text_value, text))
        weight = self.query.weight.float().unflatten(0, (self.heads, self.head_dim))  # (heads, d, C)
        bias = self.query.bias.float().view(self.heads, self.head_dim, 1)
        out = self.vision_out.weight.float().unflatten(1, (self.heads, self.head_dim)).permute(1, 2, 0)  # (heads, d, C)
        return key @ weight, (key @ bias)[..., 0], value @ out

    def _stream(
        self, vision: Tensor, keys: Tensor, biases: Tensor, values: Tensor, is_token: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute both directions in one pass over the locations; see `_fold` for the arguments."""
        biases = biases.masked_fill(~is_token[:, None], -torch.inf)
        images = [_stream_image(*parts) for parts in zip(vision, keys, biases, values)]
        read_text = torch.stack([image[0] for image in images]) + self.vision_out.bias.float()  # (B, N, C)
        means = torch.stack([image[1] for image in images])  # (B, heads, T, C)
        # the weights of a token sum to 1, so that the projection of the mean is the mean of the projections
        weight = self.vision_value.weight.float().unflatten(0, (self.heads, self.head_dim))  # (heads, d, C)
        mixed = means @ weight.transpose(1, 2) + self.vision_value.bias.float().view(self.heads, 1, self.head_dim)
        return read_text, _project(self.text_out, _join(mixed))


def _project(linear: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer in float32."""
    return F.linear(x, linear.weight.float(), linear.bias.float())


def _stream_image(vision: Tensor, keys: Tensor, biases: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Attend in both directions in one image, with a running softmax over the locations.

    Args:
        vision: (N, C).
        keys, values: (heads, T, C), folded.
        biases: (heads, T), -inf for padding.

    Returns:
        For each location the sum of values (N, C), and for each token and head the mean of locations (heads, T, C).
    """
    heads, count, dim = keys.shape
    keys, values = keys.flatten(0, 1), values.flatten(0, 1)  # (heads T, C)
    peak = vision.new_full((heads * count,), -torch.inf)
    total, means = vision.new_zeros(heads * count), vision.new_zeros(heads * count, dim)
    read_text = []
    for part in vision.split(max(1, SCORES_AT_ONCE // (heads * count))):  # (n, C)
        scores = (
            part @ keys.T
        )  # (n, heads T); the bias of a token is the same for all locations: its softmax ignores it
        new_peak = torch.maximum(peak, scores.amax(0))
        shrink, weights = (peak - new_peak).exp(), (scores - new_peak).exp_()
        total = total * shrink + weights.sum(0)
        means.mul_(shrink[:, None]).addmm_(weights.T, part)
        peak = new_peak
        attention = scores.view(-1, heads, count).add_(biases).softmax(-1)  # (n, heads, T)
        read_text.append(attention.flatten(1) @ values)
    return torch.cat(read_text), (means / total[:, None]).view(heads, count, dim)


def _mix(
    query: Tensor, key: Tensor, vision_value: Tensor, text_value: Tensor, is_token: Tensor, dropout: float
) -> tuple[Tensor, Tensor]:
    """Return the mixed values of tokens for each location and of locations for each token, (B, heads, n, d) each."""
    attend = F.scaled_dot_product_attention
    mixed_text = attend(query, key, text_value, attn_mask=is_token[:, None, None], dropout_p=dropout, scale=1.0)
    return mixed_text, attend(key, query, vision_value, dropout_p=dropout, scale=1.0)


def _mix_clamped(
    query: Tensor, key: Tensor, vision_value: Tensor, text_value: Tensor, is_token: Tensor, dropout: float
) -> tuple[Tensor, Tensor]:
    """Do what `_mix` does by plain formulas, with scores clamped where the official code does."""
    scores = _clamp(query @ key.transpose(2, 3))  # (B, heads, N, T)
    # the official mask adds 1 to tokens and -9e15 to padding; the 1 changes no softmax, and float16 has no -9e15
    to_text = scores.masked_fill(~is_token[:, None, None], -torch.inf).softmax(-1)
    scores = scores.transpose(2, 3)  # (B, heads, T, N)
    to_vision = _clamp(scores - scores.amax(-1, keepdim=True)).softmax(-1)
    return F.dropout(to_text, dropout) @ text_value, F.dropout(to_vision, dropout) @ vision_value


def _clamp(scores: Tensor) -> Tensor:
    return scores.clamp(-SCORE_LIMIT, SCORE_LIMIT)


def _stay_below_limit(query: Tensor, key: Tensor, bias: Tensor | None = None) -> bool:
    """Return whether the lengths of queries and keys exclude a product, with its bias, beyond the limit."""
    bound = _longest(query) * _longest(key)
    if bias is not None:
        bound = bound + bias.abs().amax()
    return bool(bound < SCORE_LIMIT)  # False for NaN


def _longest(rows: Tensor) -> Tensor:
    # lengths beyond the range of float16 are exact in float32
    return torch.linalg.vector_norm(rows.detach(), dim=-1, dtype=torch.promote_types(rows.dtype, torch.float32)).amax()


def _join(mixed: Tensor) -> Tensor:
    """Join the heads of (B, heads, n, d) to (B, n, heads * d)."""
    return mixed.transpose(1, 2).flatten(2)
