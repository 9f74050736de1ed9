"""Dense CLIP: the class of a place is the text nearest to its patch embedding. Nothing is trained."""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.heads.base import Head, shared_vocabulary
from openvocab.heads.maskclip_refinement import denoise_prompts, smooth_by_keys
from openvocab.logit_map import ComputedLogits, LogitMap, change_pixelwise
from openvocab.postprocess import semantic_predictions
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, SemanticPrediction, TextFeatures


@HEADS.register_module()
class DenseCLIPHead(Head):
    """Segments by the cosine of patch embeddings and class embeddings.

    How good the map is depends on the backbone's `readout` (`backbones/readouts/`). With `readout="maskclip"` this is
    MaskCLIP, not MaskCLIP+, which trains a segmenter on its labels.

    Args:
        backbone, text_dim: facts of the neighbors, given by the model.
        logit_scale: multiplier of the cosine; None takes the text encoder's. It matters only to the threshold below.
        background_threshold: where no class reaches this probability, the place belongs to the background class, for
            vocabularies that name one; None leaves background to compete as a name like any other.
        pd_thresh: MaskCLIP's prompt denoising (0.5 in the paper): rule out classes that no place gives so high a
            probability; None for none.
        ks_thresh: MaskCLIP's key smoothing (1.0 in the paper): places whose best probability is below it take those of
            places with similar keys, from `readout="maskclip"`; None for none.

    Raises:
        ValueError: the widths differ, a threshold is out of range, or key smoothing beside a background threshold.

    Reference: arXiv 2112.01071 (MaskCLIP); thresholds of this kind are the custom of its successors.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        logit_scale: float | None = 40.0,
        background_threshold: float | None = None,
        pd_thresh: float | None = None,
        ks_thresh: float | None = None,
    ) -> None:
        super().__init__()
        if backbone.embed_dim != text_dim:
            raise ValueError(
                f"dense CLIP compares patches with texts: the backbone embeds into {backbone.embed_dim} dimensions, "
                f"the text encoder into {text_dim}; use both towers of one CLIP model"
            )
        if background_threshold is not None and not 0 < background_threshold < 1:
            raise ValueError(f"background_threshold: expected between 0 and 1, got {background_threshold}")
        for name, value in (("pd_thresh", pd_thresh), ("ks_thresh", ks_thresh)):
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name}: expected above 0 and up to 1, got {value}; None turns it off")
        if ks_thresh is not None and background_threshold is not None:
            raise ValueError("ks_thresh leaves sums of probabilities, with which background_threshold cannot compare")
        self.logit_scale = logit_scale
        self.background_threshold = background_threshold
        self.pd_thresh, self.ks_thresh = pd_thresh, ks_thresh

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return logits (B, K, h, w); with key smoothing its sums of probabilities.

        Raises:
            ValueError: key smoothing without keys.
        """
        cosines = text.pixel_similarity(F.normalize(features.patch_embed, dim=1))  # (B, K, h, w)
        if self.pd_thresh is not None:
            cosines = denoise_prompts(cosines, self.pd_thresh)
        if self.ks_thresh is None:
            return self._scale(text) * cosines
        if features.patch_keys is None:
            raise ValueError("ks_thresh needs the keys of the last attention; use a backbone with readout='maskclip'")
        return smooth_by_keys(cosines, features.patch_keys, self.ks_thresh)

    def logit_maps(self, features: ImageFeatures, text: TextFeatures) -> list[LogitMap] | None:
        """Return the logits of each image part by part; None where places depend on each other."""
        if self.pd_thresh is not None or self.ks_thresh is not None:
            return None
        embed = F.normalize(features.patch_embed, dim=1)
        shape = (text.num_classes, *embed.shape[-2:])

        def compute(image: Tensor, classes: slice, rows: slice, columns: slice) -> Tensor:
            return self._scale(text) * text.part(classes).pixel_similarity(image[None, :, rows, columns])[0]

        return [
            ComputedLogits(shape, embed.device, partial(compute, image), self.classes_at_once, image.numel())
            for image in embed
        ]

    def _scale(self, text: TextFeatures) -> float | Tensor:
        return text.logit_scale if self.logit_scale is None else self.logit_scale

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Refuse: there is nothing to train.

        Raises:
            ValueError: always.
        """
        raise ValueError("DenseCLIPHead is training-free: run tools/test.py, or train another head (LSegHead)")

    def postprocess(self, outputs: Tensor | list[LogitMap], samples: Sequence[Sample]) -> list[SemanticPrediction]:
        """Return a label map for each image, in its original frame."""
        background = shared_vocabulary(samples).background
        if self.background_threshold is not None and background is not None:
            outputs = change_pixelwise(outputs, partial(self._raise_background, background))
        return semantic_predictions(outputs, samples, rows_at_once=self.rows_at_once)

    def _raise_background(self, background: int, logits: Tensor) -> Tensor:
        """Lift the background class to the logit at which a class has exactly the threshold's probability."""
        bar = torch.logsumexp(logits.float(), dim=-3) + math.log(self.background_threshold)  # (..., h, w)
        logits = logits.clone()
        logits[..., background, :, :] = torch.maximum(logits[..., background, :, :], bar.to(logits.dtype))
        return logits
