"""Dense CLIP: the class of a place is the text nearest to its patch embedding. Nothing is trained."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.heads.base import Head, shared_vocabulary
from openvocab.postprocess import semantic_predictions
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, SemanticPrediction, TextFeatures


@HEADS.register_module()
class DenseCLIPHead(Head):
    """Segments by the cosine of patch embeddings and class embeddings.

    How good the map is depends on the backbone's `readout` (`backbones/dense_attention.py`).

    Args:
        backbone, text_dim: facts of the neighbours, given by the model.
        logit_scale: multiplier of the cosine; None takes the text encoder's. It matters only to the threshold below.
        background_threshold: where no class reaches this probability, the place belongs to the background class, for
            vocabularies that name one; None leaves background to compete as a name like any other.

    Raises:
        ValueError: the widths differ, or the threshold is no probability.

    Reference: arXiv 2112.01071 (MaskCLIP); thresholds of this kind are the custom of its successors.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        logit_scale: float | None = 40.0,
        background_threshold: float | None = None,
    ) -> None:
        super().__init__()
        if backbone.embed_dim != text_dim:
            raise ValueError(
                f"dense CLIP compares patches with texts: the backbone embeds into {backbone.embed_dim} dimensions, "
                f"the text encoder into {text_dim}; use both towers of one CLIP model"
            )
        if background_threshold is not None and not 0 < background_threshold < 1:
            raise ValueError(f"background_threshold: expected between 0 and 1, got {background_threshold}")
        self.logit_scale = logit_scale
        self.background_threshold = background_threshold

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return logits (B, K, h, w)."""
        scale = text.logit_scale if self.logit_scale is None else self.logit_scale
        return scale * text.pixel_similarity(F.normalize(features.patch_embed, dim=1))

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Refuse: there is nothing to train.

        Raises:
            ValueError: always.
        """
        raise ValueError("DenseCLIPHead is training-free: run tools/test.py, or train another head (LSegHead)")

    def postprocess(self, outputs: Tensor, samples: Sequence[Sample]) -> list[SemanticPrediction]:
        """Return a label map for each image, in its original frame."""
        if self.background_threshold is not None:
            outputs = self._raise_background(outputs, samples)
        return semantic_predictions(outputs, samples)

    def _raise_background(self, logits: Tensor, samples: Sequence[Sample]) -> Tensor:
        """Lift the background class to the logit at which a class has exactly the threshold's probability."""
        background = shared_vocabulary(samples).background
        if background is None:
            return logits
        bar = torch.logsumexp(logits.float(), dim=1) + math.log(self.background_threshold)  # (B, h, w)
        logits = logits.clone()
        logits[:, background] = torch.maximum(logits[:, background], bar.to(logits.dtype))
        return logits
