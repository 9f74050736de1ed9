"""GLIP's tower: blocks in which image and text read each other, and a dynamic head block computes the levels anew."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from openvocab.argument_checks import check_number
from openvocab.heads.dynamic_head import DynamicBlock
from openvocab.layers.bert_layer import BERTLayer
from openvocab.layers.recompute import recompute
from openvocab.layers.vision_language_fusion import VisionLanguageFusion
from openvocab.structures import size_of

State = tuple[list[Tensor], Tensor]
"""Levels (B, C, h_i, w_i) and text (B, T, D)."""


class FusedBlock(nn.Module):
    """A block of the tower: fusion of image and text, then a layer of each.

    Args:
        dim: C of the levels.
        text_dim: D of the tokens.
        text_heads: heads of the text layer.
        fusion_heads, fusion_head_dim: number and width of the heads of the fusion.
        gain: see `VisionLanguageFusion`.
        dropout: of the fusion and the text layer.
        drop_path: of the fusion.
    """

    def __init__(
        self,
        dim: int,
        text_dim: int,
        text_heads: int,
        fusion_heads: int,
        fusion_head_dim: int,
        gain: float,
        dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.fusion = VisionLanguageFusion(dim, text_dim, fusion_heads, fusion_head_dim, gain, dropout, drop_path)
        self.text_layer = BERTLayer(text_dim, text_heads, dropout=dropout)
        self.dynamic = DynamicBlock(dim)

    def forward(self, levels: Sequence[Tensor], text: Tensor, is_token: Tensor) -> State:
        """See `GLIPTower.forward`."""
        vision, text = self.fusion(as_locations(levels), text, is_token)
        text = self.text_layer(text, is_token)
        return self.dynamic(as_levels(vision, levels)), text


class VisionBlock(nn.Module):
    """A block of the tower without fusion (GLIP-T A): the text passes by.

    Args:
        dim: C of the levels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dynamic = DynamicBlock(dim)

    def forward(self, levels: Sequence[Tensor], text: Tensor, is_token: Tensor) -> State:
        """See `GLIPTower.forward`."""
        return self.dynamic(levels), text


class GLIPTower(nn.Module):
    """The blocks between a feature pyramid and GLIP's predictions.

    Args:
        dim: C of the levels.
        text_dim: D of the tokens.
        num_blocks: 6; GLIP-L: 8.
        fused: whether image and text read each other; GLIP-T (A): no.
        text_heads: heads of the text layers.
        fusion_heads, fusion_head_dim: number and width of the heads of the fusion.
        dropout: of the fusion and the text layers.
        drop_path: of the fusion.
        checkpointing: recompute blocks in the backward pass to save memory.

    Reference: arXiv 2112.03857.
    """

    def __init__(
        self,
        dim: int = 256,
        text_dim: int = 768,
        num_blocks: int = 6,
        fused: bool = True,
        text_heads: int = 12,
        fusion_heads: int = 8,
        fusion_head_dim: int = 256,
        dropout: float = 0.1,
        drop_path: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_number("num_blocks", num_blocks, 1, whole=True)
        self.fused, self.checkpointing = fused, checkpointing
        heads = (text_heads, fusion_heads, fusion_head_dim)
        self.blocks = nn.ModuleList(
            FusedBlock(dim, text_dim, *heads, 1 / num_blocks, dropout, drop_path) if fused else VisionBlock(dim)
            for _ in range(num_blocks)
        )

    def forward(self, levels: Sequence[Tensor], text: Tensor, is_token: Tensor) -> State:
        """Run all blocks.

        Args:
            levels: (B, C, h_i, w_i), fine to coarse.
            text: (B, T, D), row b belongs to image b.
            is_token: (B, T) bool, False for padding.

        Returns:
            The levels in the same shapes, and the text; without fusion, the text is unchanged.
        """
        state = list(levels), text
        for block in self.blocks:
            if self.checkpointing:
                state = recompute(partial(_run, block, is_token), state)
            else:
                state = block(*state, is_token)
        return state


def _run(block: nn.Module, is_token: Tensor, state: State) -> State:
    return block(*state, is_token)


def as_locations(levels: Sequence[Tensor]) -> Tensor:
    """Return the locations (B, N, C) of maps (B, C, h_i, w_i), level by level and row by row."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)


def as_levels(locations: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Cut locations (B, N, C) into maps (B, C, h_i, w_i) of the sizes of `like`; views of the same memory."""
    sizes = [size_of(level) for level in like]
    parts = locations.split([height * width for height, width in sizes], dim=1)
    return [part.unflatten(1, size).permute(0, 3, 1, 2) for part, size in zip(parts, sizes)]
