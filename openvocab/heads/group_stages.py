"""The transformer of GroupViT: stages of blocks with group tokens, each ended by a grouping block."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from openvocab.heads.grouping_block import GroupingBlock, TokenMixer


class LevelSum(nn.Module):
    """Bring maps of several depths to one width and the grid of the first, and add them.

    Args:
        dims: channels of each map.
        width: C of the sum.
    """

    def __init__(self, dims: Sequence[int], width: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(dim, width, 1) for dim in dims)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return (B, width, h, w)."""
        levels = [project(level) for project, level in zip(self.project, maps)]
        size = levels[0].shape[-2:]
        return levels[0] + sum(F.interpolate(level, size=size, mode="bilinear") for level in levels[1:])


@dataclass
class GroupedTokens:
    """What the stages make of the patches of a batch."""

    tokens: Tensor
    """(B, S, C) segment tokens, normalized; S = groups of the last stage that has any."""
    assignments: list[Tensor]
    """[(B, G_i, N_i)] soft assignment of each grouping block; columns sum to one."""

    def soft_maps(self) -> list[Tensor]:
        """Return for each grouping block how far each patch belongs to each of its groups, [(B, G_i, N)]."""
        maps = self.assignments[:1]
        for assignment in self.assignments[1:]:
            maps.append(assignment @ maps[-1])  # (B, G_i, N)
        return maps


class GroupingStage(nn.Module):
    """Blocks over tokens and group tokens together; then, where there are groups, tokens become groups.

    Args:
        dim: C.
        num_heads: of every attention but the assignment's.
        mlp_ratio: of the MLPs over channels.
        drop_paths: stochastic depth of each block; their number is the depth.
        num_groups: G; 0 makes a stage of plain blocks.
        num_previous: group tokens of the stage before, which are mixed into this one's; 0 for the first stage.
        soft_scale: see `GroupingBlock`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        drop_paths: Sequence[float],
        num_groups: int,
        num_previous: int,
        soft_scale: float | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(dim, num_heads, mlp_ratio, qkv_bias=True, drop_path=drop_path, norm_layer=nn.LayerNorm)
            for drop_path in drop_paths
        )
        self.group_tokens = self.carry = self.grouping = None
        if num_groups:
            self.group_tokens = nn.Parameter(torch.zeros(1, num_groups, dim))
            self.grouping = GroupingBlock(dim, num_groups, num_heads, mlp_ratio, soft_scale)
        if num_groups and num_previous:
            self.carry = nn.Sequential(nn.LayerNorm(dim), TokenMixer(num_previous, dim // 2, num_groups))

    def forward(self, tokens: Tensor, previous: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Run the stage.

        Args:
            tokens: (B, N, C) patches or segments.
            previous: (B, G', C) group tokens that left the stage before; None for the first.

        Returns:
            new tokens (B, G, C), group tokens (B, G, C) and soft assignment (B, G, N); without groups the tokens
            (B, N, C) and None twice.
        """
        if self.group_tokens is None:
            return self._run_blocks(tokens), None, None
        groups = self.group_tokens.expand(len(tokens), -1, -1)
        if self.carry is not None:
            groups = groups + self.carry(previous)
        count = tokens.shape[1]
        mixed = self._run_blocks(torch.cat([tokens, groups], dim=1))  # (B, N + G, C)
        tokens, groups = mixed[:, :count], mixed[:, count:]
        tokens, assignment = self.grouping(tokens, groups)
        return tokens, groups, assignment

    def _run_blocks(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class GroupingTransformer(nn.Module):
    """All stages and the final norm.

    Args:
        dim: C.
        depths: blocks of each stage.
        num_groups: group tokens of each stage, which are also its output tokens; 0 for stages without.
        num_heads: of the attentions.
        mlp_ratio: of the MLPs.
        drop_path: stochastic depth of the last block; it rises linearly from 0.
        soft_scale: see `GroupingBlock`.

    Raises:
        ValueError: depths and groups differ in number, no stage has groups, a stage without groups before one with
            them, heads that do not divide the width, a drop path outside 0..1, or a scale that is not positive.
    """

    def __init__(
        self,
        dim: int,
        depths: Sequence[int],
        num_groups: Sequence[int],
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.1,
        soft_scale: float | None = None,
    ) -> None:
        super().__init__()
        _check_stages(dim, depths, num_groups, num_heads, drop_path)
        if soft_scale is not None and soft_scale <= 0:
            raise ValueError(f"soft_scale: expected a positive multiplier of cosines, or None, got {soft_scale}")
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").split(list(depths))
        before = (0, *num_groups[:-1])
        self.stages = nn.ModuleList(
            GroupingStage(dim, num_heads, mlp_ratio, rate.tolist(), groups, previous, soft_scale)
            for rate, groups, previous in zip(rates, num_groups, before)
        )
        self.norm = nn.LayerNorm(dim)
        self.apply(_init_linear)
        nn.init.trunc_normal_(self.stages[0].group_tokens, std=0.02)  # later ones start at what is carried over

    def forward(self, tokens: Tensor) -> GroupedTokens:
        """Group patch tokens (B, N, C)."""
        groups, assignments = None, []
        for stage in self.stages:
            tokens, groups, assignment = stage(tokens, groups)
            if assignment is not None:
                assignments.append(assignment)
        return GroupedTokens(self.norm(tokens), assignments)


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def _check_stages(dim: int, depths: Sequence[int], num_groups: Sequence[int], num_heads: int, drop_path: float) -> None:
    if len(depths) != len(num_groups):
        raise ValueError(f"expected one depth and one number of groups a stage, got {depths} and {num_groups}")
    grouped = [count > 0 for count in num_groups]
    if not grouped or not grouped[0] or grouped != sorted(grouped, reverse=True):
        raise ValueError(f"num_groups: expected stages with groups first, then those without (0), got {num_groups}")
    if dim % num_heads:
        raise ValueError(f"num_heads {num_heads} does not divide the width {dim}")
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path: expected a probability below 1, got {drop_path}")
