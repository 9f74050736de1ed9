"""Classes of regions by their similarity to texts, with a background."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.argument_checks import check_choice
from openvocab.structures import TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary

UnseenLogits = Literal["minus infinity", "zero"]
Background = Literal["learned", "empty text"]


class RegionClassifier(nn.Module):
    """Project a region to the joint space and compare it with the texts.

    Args:
        in_dim: width of the region features.
        text_dim: D of the joint space.
        temperature: divides the cosine.
        background: the embedding of "none of the classes" next to the texts: a "learned" vector (ViLD), that of the
            "empty text" (F-VLM), or None without a background.

    Raises:
        ValueError: a temperature that is not positive, an unknown background.

    Reference: ViLD, arXiv 2104.13921, equation 1.
    """

    def __init__(
        self, in_dim: int, text_dim: int, temperature: float = 0.01, background: Background | None = "learned"
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature: expected more than 0, got {temperature}")
        check_choice("background", background, (None, *get_args(Background)))
        self.temperature = temperature
        self.project = nn.Linear(in_dim, text_dim)
        self.has_background = background is not None
        self.background = nn.Parameter(0.01 * torch.randn(text_dim)) if background == "learned" else None

    def embed(self, regions: Tensor) -> Tensor:
        """Map region features (N, F) to embeddings (N, D), float32 of unit norm."""
        # float32 before the norm: its squares would lose digits in float16 or bfloat16
        return F.normalize(self.project(regions).float(), dim=-1)

    def logits(self, embed: Tensor, text: TextFeatures) -> Tensor:
        """Return logits (N, K), or (N, K + 1) with the background last, of embeddings (N, D)."""
        background = None
        if self.has_background:
            # equation 1: the background is one more row of the classifier, of unit norm like the texts
            background = text.empty if self.background is None else F.normalize(self.background.float(), dim=0)
        return region_cosines(embed, text, background) / self.temperature


def region_cosines(embed: Tensor, text: TextFeatures, background: Tensor | None) -> Tensor:
    """Compare the embeddings of regions with texts and with a background.

    Args:
        embed: (N, D) float32 unit norm.
        text: K classes.
        background: (D,) float32 unit norm, or None.

    Returns:
        (N, K) float32 in -1..1, or (N, K + 1) with the background last. Under autocast too, since bfloat16 would round
        a cosine to 1/256.
    """
    with torch.autocast(embed.device.type, enabled=False):
        cosine = text.similarity(embed)
        # (N, K + 1), with the background last
        return cosine if background is None else torch.cat([cosine, (embed @ background)[:, None]], dim=1)


def region_class_loss(
    logits: Tensor,
    classes: Tensor,
    vocabulary: Vocabulary,
    unseen_logits: UnseenLogits = "minus infinity",
    background_weight: float = 1.0,
) -> Tensor:
    """Return the mean cross entropy () of regions.

    Args:
        logits: (N, K + 1), background last.
        classes: (N,) int64, -1 for background.
        vocabulary: K classes; its unseen ones have no labels, so they must not serve as negatives.
        unseen_logits: how unseen classes enter the softmax: not at all by "minus infinity", or at a constant logit of 0
            by "zero" (official ViLD).
        background_weight: factor of the loss of regions without an object. Official F-VLM: 0.9.

    Returns:
        () float32, 0 without regions.

    Raises:
        ValueError: a region of an unseen class.
    """
    if vocabulary.seen is not None and not all(vocabulary.seen):
        unseen = ~torch.tensor((*vocabulary.seen, True), device=logits.device)
        if unseen[classes].any():  # -1, background, is the last one and seen
            raise ValueError(
                "objects of unseen classes have labels; set train_classes='seen' (or 'seen_labels') in the dataset"
            )
        logits = logits.masked_fill(unseen, 0.0 if unseen_logits == "zero" else -torch.inf)
    labels = classes.where(classes >= 0, len(vocabulary))  # (N,), background is the class K
    losses = F.cross_entropy(logits, labels, reduction="none")
    # a sum over at least 1, since the mean over no region would be NaN
    return losses.where(classes >= 0, background_weight * losses).sum() / max(1, len(labels))
