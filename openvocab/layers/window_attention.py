"""Self-attention in windows of a map, with relative position bias and shifted windows (Swin)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.structures import Size

SEPARATE = -100.0
"""Added to the scores of two tokens of a window that the shift brought together from opposite borders of the map."""


@dataclass(frozen=True)
class Windows:
    """Where the tokens of B maps (h, w) are when the maps are padded, rolled by the shift and cut into windows.

    Only windows at the lower and right border join tokens that are not neighbors, in one way per border. So windows are
    ordered by kind: inner ones, those at the right border, at the lower border, at the corner; images within a kind.
    """

    token_of: Tensor
    """(B * W * n,) int64: for each of n slots of W windows, the index of its token among B * h * w; 0 for padding."""
    slot_of: Tensor
    """(B * h * w,) int64: the slot of each token."""
    padding: Tensor
    """(P,) int64: slots without a token."""
    kinds: tuple[int, ...]
    """How many windows of all images there are of each kind; one kind if nothing is shifted."""


def cut_windows(batch: int, grid_size: Size, window: int, shift: int, device: torch.device) -> Windows:
    """Cut maps into windows, padded at the right and bottom to whole windows first and rolled after that.

    Args:
        batch: number of maps.
        grid_size: (h, w) of each map.
        window: side of a window in tokens.
        shift: by how many tokens the windows are shifted down and right.
        device: of the result.
    """
    height, width = grid_size
    rows, columns = -(-height // window), -(-width // window)
    # token of each slot of the padded map, -1 for padding
    tokens = torch.arange(height * width, device=device).view(height, width)
    tokens = F.pad(tokens, (0, columns * window - width, 0, rows * window - height), value=-1)
    tokens = tokens.roll((-shift, -shift), (0, 1))
    tokens = tokens.view(rows, window, columns, window).transpose(1, 2)  # (rows, columns, window, window)
    kinds = [tokens]
    if shift:
        kinds = [tokens[:-1, :-1], tokens[:-1, -1:], tokens[-1:, :-1], tokens[-1:, -1:]]
    first = torch.arange(batch, device=device)[:, None, None] * (height * width)  # (B, 1, 1)
    parts = []
    for kind in kinds:
        slots = kind.flatten(0, 1).flatten(1)  # (windows, n)
        parts.append((slots + first).where(slots >= 0, -1).flatten(0, 1))  # (B * windows, n)
    token_of = torch.cat(parts).flatten()
    is_padding = token_of < 0
    slot_of = torch.empty(batch * height * width, dtype=torch.int64, device=device)
    slot_of[token_of[~is_padding]] = (~is_padding).nonzero()[:, 0]
    return Windows(token_of.clamp(min=0), slot_of, is_padding.nonzero()[:, 0], tuple(len(part) for part in parts))


def relative_positions(window: int) -> Tensor:
    """Return the row of the bias table for each pair of tokens of a window, (n, n) int64, n = window * window."""
    rows, columns = (
        torch.arange(window * window).div(window, rounding_mode="floor"),
        torch.arange(window).repeat(window),
    )
    down, right = rows[:, None] - rows, columns[:, None] - columns  # (n, n), from -window + 1 to window - 1
    return (down + window - 1) * (2 * window - 1) + right + window - 1


def separations(window: int, shift: int) -> Tensor:
    """Return what is added to the scores of each kind of window, (kinds, n, n); see `Windows`."""
    # the last `shift` rows of the lowest windows, and columns of the rightmost, come from the opposite border
    wrapped = torch.arange(window) >= window - shift if shift else torch.zeros(window, dtype=torch.bool)
    row, column = wrapped.repeat_interleave(window), wrapped.repeat(window)  # (n,)
    apart_down, apart_right = row[:, None] != row, column[:, None] != column  # (n, n)
    none = torch.zeros_like(apart_down)
    kinds = [none, apart_right, apart_down, apart_right | apart_down] if shift else [none]
    return torch.stack(kinds) * SEPARATE


class WindowAttention(nn.Module):
    """Multi-head self-attention in windows.

    The projections see only tokens. A padded slot has the value zero, so its q, k and v are the bias; it takes part
    in the attention like any other, as in the official code.

    Args:
        dim: C.
        heads: number of heads.
        window: side of a window in tokens.
        shift: see `cut_windows`.
    """

    def __init__(self, dim: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self._remembered: tuple[object, Tensor] | None = None

    def forward(self, tokens: Tensor, windows: Windows) -> Tensor:
        """Attend over tokens (B * h * w, C) of maps that were cut into `windows`; return the same shape."""
        qkv = self.qkv(tokens)  # (B h w, 3 C)
        slots = qkv.index_select(0, windows.token_of)  # (B W n, 3 C)
        slots.index_copy_(0, windows.padding, self.qkv.bias.to(qkv.dtype).expand(len(windows.padding), -1))
        q, k, v = slots.view(-1, self.window**2, 3, self.heads, tokens.shape[-1] // self.heads).unbind(2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B W, heads, n, d)
        of_kind = zip(*(part.split(windows.kinds) for part in (q, k, v)), self._bias(qkv.dtype)[:, None])
        mixed = [F.scaled_dot_product_attention(q, k, v, attn_mask=bias) for q, k, v, bias in of_kind if len(q)]
        joined = torch.cat(mixed).transpose(1, 2).flatten(2).flatten(0, 1)  # (B W n, C)
        return self.proj(joined.index_select(0, windows.slot_of))

    def _bias(self, dtype: torch.dtype) -> Tensor:
        """Return what is added to the scores of each kind of window, (kinds, heads, n, n)."""
        table = self.relative_position_bias_table
        if torch.is_grad_enabled() and table.requires_grad:
            self._remembered = None
            return self._expanded(dtype)
        # a tensor of inference mode cannot take part in a backward pass later
        version = (
            dtype,
            torch.is_inference_mode_enabled(),
            table.data_ptr(),
            0 if table.is_inference() else table._version,
        )
        if self._remembered is None or self._remembered[0] != version:
            self._remembered = (version, self._expanded(dtype))
        return self._remembered[1]

    def _expanded(self, dtype: torch.dtype) -> Tensor:
        table = self.relative_position_bias_table
        bias = table[relative_positions(self.window).to(table.device)].permute(2, 0, 1)  # (heads, n, n)
        return (bias + separations(self.window, self.shift).to(table)[:, None]).to(dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "WindowAttention":
        self._remembered = None  # a cast table may have the address of the old one
        return super()._apply(fn, recurse)
