"""Training-free dense readouts: what the last attention of a CLIP tower mixes into each patch.

CLIP trains only its class token; its last attention spreads the patches' meaning over the image. Each readout replaces
that attention matrix by one that keeps a patch to itself and to its like, and keeps the value and output projections.
With rows and columns over all N tokens (prefix tokens first), s = 1 / sqrt(d), per head:

    clip      softmax(s q kT) v                      the tower as it is
    maskclip  v                                      arXiv 2112.01071
    sclip     (softmax(s q qT) + softmax(s k kT)) v  arXiv 2312.01597
    clearclip softmax(s q qT) v                      arXiv 2407.12442
    naclip    softmax(s k kT + G) v                  arXiv 2404.08181; patches: G_ij = exp(-|i - j|^2 / (2 * 5^2))

ClearCLIP found that the residual and the feed-forward half of the block drown what the attention says: all but `clip`
and `sclip` (which changed the attention alone, also in its official code) leave both out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from openvocab.backbones.attention import attend
from openvocab.backbones.clip_attention import Projections
from openvocab.structures import Size

NACLIP_STD = 5.0
"""Of the Gaussian window, in patches."""

Mix = Callable[[Projections, Size], Tensor]


@dataclass(frozen=True)
class Readout:
    """How the last block makes patch embeddings."""

    mix: Mix
    """((q, k, v) each (B, heads, N, d), grid size (h, w)) -> mixed values (B, heads, N, d); N = prefix + h * w."""
    whole_block: bool = False
    """Whether the block's residual and feed-forward half stay. The pool of a ResNet has neither."""


def plain(projections: Projections, grid_size: Size) -> Tensor:
    """Mix as the tower was trained."""
    return attend(*projections)


def maskclip(projections: Projections, grid_size: Size) -> Tensor:
    """Let every token keep its own value (identity attention)."""
    return projections[2]


def sclip(projections: Projections, grid_size: Size) -> Tensor:
    """Sum the query-query and the key-key attention (correlative self-attention; its weights sum to two)."""
    q, k, v = projections
    return attend(q, q, v) + attend(k, k, v)


def clearclip(projections: Projections, grid_size: Size) -> Tensor:
    """Attend by the similarity of queries."""
    q, _, v = projections
    return attend(q, q, v)


def naclip(projections: Projections, grid_size: Size) -> Tensor:
    """Attend by the similarity of keys, favouring the neighbourhood."""
    _, k, v = projections
    return attend(k, k, v, gaussian_window(grid_size, k.shape[2], NACLIP_STD).to(k))


def gaussian_window(grid_size: Size, length: int, std: float) -> Tensor:
    """Return exp(-distance^2 / (2 std^2)) between the patches of a grid, (length, length); zero for prefix tokens."""
    height, width = grid_size
    rows, columns = (torch.arange(size, dtype=torch.float32) for size in grid_size)
    vertical = torch.exp(-((rows[:, None] - rows) ** 2) / (2 * std**2))  # (h, h)
    horizontal = torch.exp(-((columns[:, None] - columns) ** 2) / (2 * std**2))  # (w, w)
    window = torch.zeros(length, length)
    window[-height * width :, -height * width :] = torch.kron(vertical, horizontal)
    return window


READOUTS: dict[str, Readout] = {
    "clip": Readout(plain, whole_block=True),
    "maskclip": Readout(maskclip),
    "sclip": Readout(sclip, whole_block=True),
    "clearclip": Readout(clearclip),
    "naclip": Readout(naclip),
}


def get_readout(name: str) -> Readout:
    """Return the readout called `name`.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    if name not in READOUTS:
        raise ValueError(f"unknown readout {name!r}; known: {', '.join(READOUTS)}")
    return READOUTS[name]
