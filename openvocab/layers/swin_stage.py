"""A stage of a Swin transformer: blocks of window attention at one resolution."""

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from openvocab.layers.recompute import recompute
from openvocab.layers.window_attention import WindowAttention, Windows, cut_windows

MLP_RATIO = 4


class PatchEmbedding(nn.Module):
    """Project square patches of an image, and normalize them.

    Args:
        dim: C.
        patch_size: side of a patch in pixels.
    """

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(3, dim, patch_size, stride=patch_size), nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, h, w, C)."""
        return self.norm(self.proj(images.to(self.proj.weight.dtype)).permute(0, 2, 3, 1))


class SwinBlock(nn.Module):
    """A residual block: attention in windows, then a feed-forward network.

    Args:
        dim: C.
        heads: number of heads.
        window: side of a window in tokens.
        shift: by how many tokens its windows are shifted.
        drop_path: probability that a branch is skipped in training.
    """

    def __init__(self, dim: int, heads: int, window: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, window, shift)
        self.mlp = Mlp(dim, MLP_RATIO * dim)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, maps: Tensor, windows: Windows) -> Tensor:
        """Map (B, h, w, C) to the same shape."""
        attended = self.attn(self.norm1(maps).flatten(0, 2), windows).view(maps.shape)
        maps = maps + self.drop_path(attended)
        return maps + self.drop_path(self.mlp(self.norm2(maps)))


class PatchMerging(nn.Module):
    """Halve the resolution: the four neighbors of each 2 x 2 cell are concatenated, normalized and projected to 2 C.

    Args:
        dim: C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, h, w, C) to (B, h / 2, w / 2, 2 C), rounded up: odd sides are padded with zeros."""
        height, width = maps.shape[1:3]
        if height % 2 or width % 2:
            maps = F.pad(maps, (0, 0, 0, width % 2, 0, height % 2))
        cells = maps.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, h / 2, 2, w / 2, 2, C)
        # in the official order, down before right: upper left, lower left, upper right, lower right
        return self.reduction(self.norm(cells.permute(0, 1, 3, 4, 2, 5).flatten(3)))


class SwinStage(nn.Module):
    """Blocks whose windows are alternately unshifted and shifted by half a window, and the step to the next stage.

    Args:
        dim: C.
        heads: number of heads.
        window: side of a window in tokens.
        drop_paths: of each block; their number is the depth.
        downsample: whether a stage follows.
        checkpointing: recompute blocks in the backward pass to save memory.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        window: int,
        drop_paths: Sequence[float],
        downsample: bool,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.window, self.checkpointing = window, checkpointing
        shifts = [window // 2 * (i % 2) for i in range(len(drop_paths))]
        self.blocks = nn.ModuleList(
            SwinBlock(dim, heads, window, shift, drop_path) for shift, drop_path in zip(shifts, drop_paths)
        )
        self.downsample = PatchMerging(dim) if downsample else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, h, w, C) to the output of the last block, in the same shape."""
        batch, height, width, _ = maps.shape
        # always shifted, even if the map is a single window: timm's Swin then leaves it out, the official one does not
        cuts = [cut_windows(batch, (height, width), self.window, shift, maps.device) for shift in (0, self.window // 2)]
        for i, block in enumerate(self.blocks):
            if self.checkpointing:
                maps = recompute(partial(block, windows=cuts[i % 2]), maps)
            else:
                maps = block(maps, cuts[i % 2])
        return maps
