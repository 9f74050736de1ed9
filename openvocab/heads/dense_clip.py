"""Dense CLIP: the class of a patch is the text nearest to its embedding. Nothing is trained."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.heads.base import Head, shared_vocabulary
from openvocab.heads.maskclip_refinement import denoise_prompts, smooth_by_keys
from openvocab.logit_map import ComputedLogits, LogitMap, change_pixelwise
from openvocab.postprocess import predictions_with_softmax, semantic_predictions
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, SemanticPrediction, TextFeatures, known


@HEADS.register_module()
class DenseCLIPHead(Head):
    """Segments by the cosine of patch embeddings and class embeddings.

    The quality depends on the backbone's `readout` (`backbones/readouts/`). With `readout="maskclip"` this is MaskCLIP,
    but not MaskCLIP+, which trains a segmenter on its labels.

    Args:
        backbone, text_dim: description of the backbone and width of the text embeddings, passed by the model.
        logit_scale: multiplier of the cosine; None for the text encoder's. Only the background threshold depends on it.
        background_threshold: patches at which no class reaches this probability become background, for vocabularies
            that name one. Default: the background competes as a name like any other.
        pd_thresh: MaskCLIP's prompt denoising (0.5 in the paper): exclude classes whose probability is below this
            threshold at every patch. Default: no denoising.
        ks_thresh: MaskCLIP's key smoothing (1.0 in the paper): patches whose best probability is below this threshold
            take the probabilities of patches with similar keys; needs `readout="maskclip"`. Default: no smoothing.

    Raises:
        ValueError: the backbone's embeddings and the texts differ in width, a threshold is out of range, or key
            smoothing is combined with a background threshold.

    Reference: arXiv 2112.01071 (MaskCLIP); its successors use thresholds of this kind.
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
            raise ValueError("ks_thresh returns sums of probabilities, to which background_threshold does not apply")
        self.logit_scale = logit_scale
        self.background_threshold = background_threshold
        self.pd_thresh, self.ks_thresh = pd_thresh, ks_thresh

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return logits (B, K, h, w), or with key smoothing sums of probabilities.

        Raises:
            ValueError: key smoothing without keys.
        """
        cosines = text.pixel_similarity(_unit_patches(features))  # (B, K, h, w)
        if self.pd_thresh is not None:
            cosines = denoise_prompts(cosines, self.pd_thresh)
        if self.ks_thresh is None:
            return self._scale(text) * cosines
        if features.patch_keys is None:
            raise ValueError("ks_thresh needs the keys of the last attention; use a backbone with readout='maskclip'")
        return smooth_by_keys(cosines, features.patch_keys, self.ks_thresh)

    def logit_maps(self, features: ImageFeatures, text: TextFeatures) -> list[LogitMap] | None:
        """Return the logits (K, h, w) of each image part by part; None if patches depend on each other."""
        if self.pd_thresh is not None or self.ks_thresh is not None:
            return None
        embed = _unit_patches(features)  # (B, D, h, w)
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
        """Raise `ValueError`: there is nothing to train."""
        raise ValueError("DenseCLIPHead is training-free: run `openvocab test`, or train another head (LSegHead)")

    def postprocess(self, outputs: Tensor | list[LogitMap], samples: Sequence[Sample]) -> list[SemanticPrediction]:
        """Return a label map (H, W) for each image, of its `original_size`."""
        return semantic_predictions(self._with_background(outputs, samples), samples, rows_at_once=self.rows_at_once)

    def predictions_with_scores(
        self, outputs: Any, samples: Sequence[Sample], *pixels: Any
    ) -> Iterator[tuple[SemanticPrediction, LogitMap]]:
        """Return each prediction with its probabilities (K, H, W), see `Head.predictions_with_scores`.

        Raises:
            ValueError: key smoothing returns sums of probabilities, not probabilities.
        """
        if self.ks_thresh is not None:
            raise ValueError("ks_thresh: key smoothing has sums of probabilities instead of a score for each pixel")
        outputs = self._with_background(outputs, samples)
        return predictions_with_softmax(outputs, samples, rows_at_once=self.rows_at_once)

    def _with_background(self, outputs: Tensor | list[LogitMap], samples: Sequence[Sample]) -> Tensor | list[LogitMap]:
        """Return the outputs with the background's logit at the threshold or above it."""
        background = shared_vocabulary(samples).background
        if self.background_threshold is None or background is None:
            return outputs
        return change_pixelwise(outputs, partial(_raise_background, background, math.log(self.background_threshold)))


def _unit_patches(features: ImageFeatures) -> Tensor:
    """Return the patch embeddings (B, D, h, w), unit norm."""
    return F.normalize(known(features.patch_embed, "patch_embed of the backbone"), dim=1)


def _raise_background(background: int, log_threshold: float, logits: Tensor) -> Tensor:
    """Raise the background of logits (..., K, h, w) to the logit whose probability is exactly the threshold."""
    # the logsumexp is the log of the softmax's denominator: adding the log of a probability gives its logit
    floor = torch.logsumexp(logits.float(), dim=-3) + log_threshold  # (..., h, w)
    # the outputs of `forward` belong to the caller
    logits = logits.clone()
    logits[..., background, :, :] = torch.maximum(logits[..., background, :, :], floor.to(logits.dtype))
    return logits
