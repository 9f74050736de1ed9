"""RF-CLIP's decision: words move towards what the image shows of them, and the whole image has a say."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.heads.training_free import TrainingFreeHead
from openvocab.logit_map import LogitMap
from openvocab.ops.complete_linkage import complete_linkage
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ImageFeatures, TextFeatures


@HEADS.register_module()
class RFCLIPHead(TrainingFreeHead):
    """`TrainingFreeHead` with RF-CLIP's text side, which CASS had first.

    Words that are close to each other form clusters; of each, the word that is most like the image moves towards the
    two patches most like it. The cosine of the image with the word is then mixed into that of every patch.

    The paper sets the three numbers for each dataset (image_share, patch_share, cluster_distance): VOC21 .1, .03, .10;
    Context .25, .04, .09; COCO-Object .25, .01, .10; VOC20 .4, .02, .10; COCO-Stuff .2, .02, .02; Cityscapes .1, .03,
    .14; ADE20K .3, .05, .06. The defaults are ours, for names of any kind.

    Args:
        backbone, text_dim, logit_scale, background_threshold, area_threshold, pamr_dilations, pamr_steps: see
            `TrainingFreeHead`.
        image_share: of the image's cosine.
        patch_share: how far a word moves; 0 leaves the words alone.
        cluster_distance: cosine distance of the farthest words of a cluster.
        image: "whole", or "window" for what the network sees of it at a time (the paper's choice for Cityscapes).

    Raises:
        ValueError: see `TrainingFreeHead`; a share out of 0..1, or another word for `image`.

    Reference: the code of RF-CLIP, commit c2b333e6; CASS, arXiv 2411.17150.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        logit_scale: float | None = 40.0,
        background_threshold: float | None = None,
        area_threshold: float | None = None,
        pamr_dilations: Sequence[int] = (),
        pamr_steps: int = 10,
        image_share: float = 0.2,
        patch_share: float = 0.0,
        cluster_distance: float = 0.1,
        image: Literal["whole", "window"] = "whole",
    ) -> None:
        super().__init__(
            backbone, text_dim, logit_scale, background_threshold, area_threshold, pamr_dilations, pamr_steps
        )
        for name, share in (("image_share", image_share), ("patch_share", patch_share)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name}: expected 0 to 1, got {share}")
        if image not in ("whole", "window"):
            raise ValueError(f"image: expected 'whole' or 'window', got {image!r}")
        self.image_share, self.patch_share, self.cluster_distance = image_share, patch_share, cluster_distance
        self.reads_whole_image = image == "whole"
        self._clusters: tuple[Tensor, Tensor] | None = None  # the words that were clustered last, and their clusters

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return logits of the words, (B, R, h, w)."""
        patches = F.normalize(features.patch_embed.float(), dim=1).flatten(2)  # (B, D, N)
        pooled = features.image_embed if features.whole_embed is None else features.whole_embed
        of_image = F.normalize(pooled.float(), dim=1) @ text.embed.T  # (B, R)
        words = self._moved(text.embed, of_image, patches)  # (B, R, D)
        cosines = (1 - self.image_share) * (words @ patches) + self.image_share * of_image[..., None]
        return self._scale(text) * cosines.unflatten(2, features.patch_embed.shape[-2:])

    def logit_maps(self, features: ImageFeatures, text: TextFeatures) -> list[LogitMap] | None:
        """Return None: words depend on all patches."""
        return None

    def _moved(self, words: Tensor, of_image: Tensor, patches: Tensor) -> Tensor:
        """Return the words (R, D) as each image changes them, (B, R, D)."""
        if self.patch_share == 0:
            return words.expand(len(patches), -1, -1)
        nearest = (words @ patches).topk(min(2, patches.shape[-1])).indices  # (B, R, 2)
        columns = patches.transpose(1, 2)  # (B, N, D)
        seen = torch.stack([image[index].mean(1) for image, index in zip(columns, nearest)])  # (B, R, D)
        moved = (1 - self.patch_share) * words + self.patch_share * F.normalize(seen, dim=-1)
        moves = best_of_clusters(of_image, self._clusters_of(words))
        return torch.where(moves[..., None], F.normalize(moved, dim=-1), words)

    def _clusters_of(self, words: Tensor) -> Tensor:
        known = self._clusters is not None and self._clusters[0].device == words.device
        if not known or not torch.equal(self._clusters[0], words):
            self._clusters = words, complete_linkage(1 - words @ words.T, self.cluster_distance)
        return self._clusters[1]


def best_of_clusters(scores: Tensor, cluster: Tensor) -> Tensor:
    """Return which of scores (B, R) is the first best one of its cluster, (B, R) bool; `cluster` (R,) holds indices."""
    index, count = cluster.expand_as(scores), scores.shape[1]
    best = scores.new_full(scores.shape, -torch.inf).scatter_reduce(1, index, scores, "amax")
    places = torch.arange(count, device=scores.device).expand_as(scores)
    tied = torch.where(scores == best.gather(1, index), places, count)
    first = places.new_full(scores.shape, count).scatter_reduce(1, index, tied, "amin")
    return places == first.gather(1, index)
