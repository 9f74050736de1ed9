"""Proposals and their embeddings for items of a dataset, for the cache tool and `EmbedRegions`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from openvocab.registry import PROPOSAL_SOURCES
from openvocab.structures import Regions
from openvocab.teacher.proposal_sources import ProposalSource
from openvocab.teacher.region_teacher import RegionTeacher


class RegionEmbedder:
    """A teacher with the source of the regions that it embeds."""

    def __init__(self, teacher: RegionTeacher, proposals: ProposalSource) -> None:
        self.teacher, self.proposals = teacher, proposals

    @property
    def facts(self) -> dict[str, Any]:
        """Everything that the regions depend on, except for the dataset."""
        return {"teacher": self.teacher.facts, "proposals": self.proposals.facts}

    def __call__(self, items: Iterable[dict]) -> list[Regions]:
        """Return the regions of each item: boxes (N, 4), embeddings (N, D) and objectness (N,).

        Args:
            items: results dicts after `LoadImage`, which are consumed one by one.
        """
        proposals: list[tuple[Tensor, Tensor]] = []
        embeds = self.teacher(self._images(items, proposals))
        return [Regions(boxes, embed, objectness) for (boxes, objectness), embed in zip(proposals, embeds, strict=True)]

    def _images(
        self, items: Iterable[dict], proposals: list[tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield images (H, W, 3) RGB with their boxes (N, 4); append boxes and objectness (N,) to `proposals`."""
        for results in items:
            proposals.append(self.proposals(results))
            yield np.ascontiguousarray(results["img"][..., ::-1]), proposals[-1][0]


def build_embedder(teacher: Mapping[str, Any]) -> RegionEmbedder:
    """Build the embedder that the `teacher` of a config describes.

    Args:
        teacher: arguments of `RegionTeacher`, the dict `proposals`, and the `folder` of the cache, which is ignored.

    Raises:
        ValueError: no proposals.
    """
    arguments = {key: value for key, value in teacher.items() if key not in ("proposals", "folder")}
    if not isinstance(teacher.get("proposals"), dict):
        raise ValueError("teacher: no 'proposals'; expected a dict such as dict(type=GridProposals)")
    return RegionEmbedder(RegionTeacher(**arguments), PROPOSAL_SOURCES.build(dict(teacher["proposals"])))
