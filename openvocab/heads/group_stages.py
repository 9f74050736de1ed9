"""The transformer of GroupViT: stages of blocks with group tokens, each of which ends with a grouping block."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from openvocab.argument_checks import check_number, check_numbers
from openvocab.heads.grouping_block import GroupingBlock, TokenMixer


@dataclass(frozen=True)
class TransformerArguments:
    """The stages of a `GroupingTransformer`; the defaults are the official network."""

    depths: Sequence[int] = (6, 3, 3)
    """Blocks per stage."""
    num_groups: Sequence[int] = (64, 8, 0)
    """Group tokens per stage, which are also its output tokens; 0 for stages that do not group."""
    num_heads: int = 6
    """Heads of every attention except the assignment's."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLPs over channels, relative to C."""
    drop_path: float = 0.1
    """Stochastic depth of the last block; it rises linearly from 0."""
    soft_scale: float | None = None
    """None assigns each token to one group (official). A number shares it among the groups by a softmax of cosines
    times this number, and shares the scores of the groups among the pixels (ours: learns from far fewer pairs; on most
    pixels of small objects the largest share is the background's, though their own group has one too)."""

    def __post_init__(self) -> None:
        check_numbers("transformer.depths", self.depths, 0, whole=True)
        check_numbers("transformer.num_groups", self.num_groups, 0, whole=True)
        check_number("transformer.num_heads", self.num_heads, 1, whole=True)
        check_number("transformer.mlp_ratio", self.mlp_ratio, 0)
        check_number("transformer.drop_path", self.drop_path)
        check_number("transformer.soft_scale", self.soft_scale, optional=True)
        if len(self.depths) != len(self.num_groups):
            raise ValueError(
                f"transformer: expected one depth and one number of groups per stage, got {self.depths} and "
                f"{self.num_groups}"
            )
        grouped = [count > 0 for count in self.num_groups]
        if not grouped or not grouped[0] or grouped != sorted(grouped, reverse=True):
            raise ValueError(
                f"transformer.num_groups: expected stages with groups first, then those without (0), got "
                f"{self.num_groups}"
            )
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"transformer.drop_path: expected a probability below 1, got {self.drop_path}")
        if self.soft_scale is not None and self.soft_scale <= 0:
            raise ValueError(
                f"transformer.soft_scale: expected a positive multiplier of cosines, or None, got {self.soft_scale}"
            )


class LevelSum(nn.Module):
    """Project maps of several depths to one width, resize them to the grid of the first, and add them.

    Args:
        dims: channels of each map.
        width: C of the sum.
    """

    def __init__(self, dims: Sequence[int], width: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(dim, width, 1) for dim in dims)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the sum (B, width, h, w) of maps [(B, C_i, h_i, w_i)]; h and w are those of the first."""
        levels = [project(level) for project, level in zip(self.project, maps)]
        size = levels[0].shape[-2:]
        return levels[0] + sum(F.interpolate(level, size=size, mode="bilinear") for level in levels[1:])


@dataclass
class GroupedTokens:
    """The output of the stages for the patches of a batch."""

    tokens: Tensor
    """(B, S, C) segment tokens, normalized; S = groups of the last stage that has any."""
    assignments: list[Tensor]
    """[(B, G_i, N_i)] soft assignment of each grouping block; columns sum to one."""

    def soft_maps(self) -> list[Tensor]:
        """Return for each grouping block how far each patch belongs to each of its groups, [(B, G_i, N)]."""
        maps = self.assignments[:1]
        for assignment in self.assignments[1:]:
            # groups of groups: the product leads back to the patches, and its columns sum to one, too
            maps.append(assignment @ maps[-1])  # (B, G_i, N)
        return maps


class GroupingStage(nn.Module):
    """Blocks over tokens and group tokens together; then, if the stage groups, tokens become groups.

    Args:
        dim: C.
        num_heads: heads of every attention except the assignment's.
        mlp_ratio: hidden width of the MLPs over channels, relative to `dim`.
        drop_paths: stochastic depth of each block; their number is the depth.
        num_groups: G; 0 for a stage of plain blocks.
        num_previous: G' group tokens of the previous stage, which are mixed into this one's; 0 for the first stage.
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
        self.group_tokens: nn.Parameter | None = None
        self.carry: nn.Module | None = None
        self.grouping: GroupingBlock | None = None
        if num_groups:
            self.group_tokens = nn.Parameter(torch.zeros(1, num_groups, dim))
            self.grouping = GroupingBlock(dim, num_groups, num_heads, mlp_ratio, soft_scale)
        if num_groups and num_previous:
            self.carry = nn.Sequential(nn.LayerNorm(dim), TokenMixer(num_previous, dim // 2, num_groups))

    def forward(self, tokens: Tensor, previous: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Run the stage.

        Args:
            tokens: (B, N, C) patches or segments.
            previous: (B, G', C) group tokens that left the previous stage; None for the first.

        Returns:
            New tokens (B, G, C), group tokens (B, G, C) and soft assignment (B, G, N); without groups the tokens
            (B, N, C) and twice None.
        """
        if self.group_tokens is None or self.grouping is None:
            return self._run_blocks(tokens), None, None
        groups = self.group_tokens.expand(len(tokens), -1, -1)
        if self.carry is not None:
            groups = groups + self.carry(previous)  # (B, G, C)
        count = tokens.shape[1]
        mixed = self._run_blocks(torch.cat([tokens, groups], dim=1))  # (B, N + G, C)
        tokens, groups = mixed[:, :count], mixed[:, count:]
        tokens, assignment = self.grouping(tokens, groups)  # (B, G, C), (B, G, N)
        return tokens, groups, assignment

    def _run_blocks(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, N, C) to tokens of the same shape."""
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class GroupingTransformer(nn.Module):
    """All stages and the final norm.

    Args:
        dim: C.
        stages: depths, groups and the rest.

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(self, dim: int, stages: TransformerArguments) -> None:
        super().__init__()
        if dim % stages.num_heads:
            raise ValueError(f"transformer.num_heads: {stages.num_heads} does not divide the width {dim}")
        # on the CPU, even under another default device: the rates are read as numbers
        rates = torch.linspace(0, stages.drop_path, sum(stages.depths), device="cpu").split(list(stages.depths))
        num_previous = (0, *stages.num_groups[:-1])
        self.stages = nn.ModuleList(
            GroupingStage(dim, stages.num_heads, stages.mlp_ratio, rate.tolist(), groups, previous, stages.soft_scale)
            for rate, groups, previous in zip(rates, stages.num_groups, num_previous)
        )
        self.norm = nn.LayerNorm(dim)
        self.apply(_init_linear)
        # group tokens of later stages start at zero: what is carried over from the previous stage tells them apart
        first = self.stages[0].group_tokens
        if isinstance(first, nn.Parameter):
            nn.init.trunc_normal_(first, std=0.02)

    def forward(self, tokens: Tensor) -> GroupedTokens:
        """Group patch tokens (B, N, C) into segment tokens (B, S, C), with the assignments [(B, G_i, N_i)]."""
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
