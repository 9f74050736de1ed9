"""RF-CLIP's text side: texts move towards similar patches, and the score of the whole image is mixed in."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.argument_checks import check_choice
from openvocab.heads.training_free import TrainingFreeHead
from openvocab.logit_map import LogitMap
from openvocab.ops.complete_linkage import complete_linkage
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ImageFeatures, TextFeatures, known


@HEADS.register_module()
class RFCLIPHead(TrainingFreeHead):
    """`TrainingFreeHead` with RF-CLIP's text side, which was introduced by CASS.

    Words that are close to each other form clusters. In each cluster the word that is most similar to the image moves
    towards the two patches most similar to it. The cosine of the image with the word is then mixed into the cosine of
    every patch.

    The paper sets the three numbers for each dataset (image_share, patch_share, cluster_distance): VOC21 .1, .03, .10;
    Context .25, .04, .09; COCO-Object .25, .01, .10; VOC20 .4, .02, .10; COCO-Stuff .2, .02, .02; Cityscapes .1, .03,
    .14; ADE20K .3, .05, .06. The defaults are ours, for names of any kind.

    Args:
        backbone, text_dim, logit_scale, background_threshold, area_threshold, pamr_dilations, pamr_steps: see
            `TrainingFreeHead`.
        image_share: weight of the image's cosine, in 0..1.
        patch_share: weight of the patches in a word that moves, in 0..1; 0 turns this off.
        cluster_distance: largest cosine distance of two words in a cluster.
        image: "whole", or "window" for the part that the network sees at a time (the paper's choice for Cityscapes).

    Raises:
        ValueError: see `TrainingFreeHead`; a weight outside 0..1, or an unknown `image`.

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
        check_choice("image", image, ("whole", "window"))
        self.image_share, self.patch_share, self.cluster_distance = image_share, patch_share, cluster_distance
        self.reads_whole_image = image == "whole"
        self._clusters: tuple[Tensor, Tensor] | None = None  # the latest words (R, D), and their clusters (R,)

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return logits of the words, (B, R, h, w)."""
        patch_embed = known(features.patch_embed, "patch_embed of the backbone")
        patches = F.normalize(patch_embed.float(), dim=1).flatten(2)  # (B, D, N)
        pooled = features.image_embed if features.whole_embed is None else features.whole_embed
        pooled = known(pooled, "image_embed of the backbone")
        image_cosines = F.normalize(pooled.float(), dim=1) @ text.embed.T  # (B, R)
        words = self._move_words(text.embed, image_cosines, patches)  # (B, R, D)
        # (B, R, N)
        cosines = (1 - self.image_share) * (words @ patches) + self.image_share * image_cosines[..., None]
        return self._scale(text) * cosines.unflatten(2, patch_embed.shape[-2:])

    def logit_maps(self, features: ImageFeatures, text: TextFeatures) -> list[LogitMap] | None:
        """Return None: words depend on all patches."""
        return None

    def _move_words(self, words: Tensor, image_cosines: Tensor, patches: Tensor) -> Tensor:
        """Return the words of each image (B, R, D).

        Args:
            words: (R, D) unit norm.
            image_cosines: (B, R) with the whole images.
            patches: (B, D, N) unit norm.
        """
        if self.patch_share == 0:
            return words.expand(len(patches), -1, -1)
        nearest = (words @ patches).topk(min(2, patches.shape[-1])).indices  # (B, R, 2)
        columns = patches.transpose(1, 2)  # (B, N, D)
        towards = torch.stack([image[index].mean(1) for image, index in zip(columns, nearest)])  # (B, R, D)
        moved = (1 - self.patch_share) * words + self.patch_share * F.normalize(towards, dim=-1)  # (B, R, D)
        moves = best_of_clusters(image_cosines, self._clusters_of(words))  # (B, R)
        return torch.where(moves[..., None], F.normalize(moved, dim=-1), words)

    def _clusters_of(self, words: Tensor) -> Tensor:
        """Return the cluster (R,) of each word (R, D); those of the latest words are cached."""
        if self._clusters is not None:
            latest, clusters = self._clusters
            # the images of a run mostly share their words, and clustering takes time cubic in R
            if latest.device == words.device and torch.equal(latest, words):
                return clusters
        clusters = complete_linkage(1 - words @ words.T, self.cluster_distance)
        self._clusters = words, clusters
        return clusters


def best_of_clusters(scores: Tensor, cluster: Tensor) -> Tensor:
    """Return whether each score is the first best one of its cluster.

    Args:
        scores: (B, R).
        cluster: (R,) int64, index in 0..R - 1.

    Returns:
        (B, R) bool, one True per cluster.
    """
    index, count = cluster.expand_as(scores), scores.shape[1]
    best = scores.new_full(scores.shape, -torch.inf).scatter_reduce(1, index, scores, "amax")
    position = torch.arange(count, device=scores.device).expand_as(scores)  # (B, R)
    # of equal scores the first one, by a second reduction over their positions
    tied = torch.where(scores == best.gather(1, index), position, count)
    first = position.new_full(scores.shape, count).scatter_reduce(1, index, tied, "amin")
    return torch.eq(position, first.gather(1, index))
