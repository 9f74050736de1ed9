"""CLIP on cropped regions: the baseline that ViLD distills. Nothing is trained."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from openvocab.detection.region_outputs import original_boxes
from openvocab.heads.base import Head
from openvocab.ops.class_wise_nms import class_wise_nms
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, DetectionPrediction, ImageFeatures, Sample, TextFeatures, known


@dataclass
class ImageLogits:
    """Logits of whole images, and the texts with which their regions are compared."""

    logits: Tensor
    """(B, K) float32."""
    text: TextFeatures


@HEADS.register_module()
class CLIPOnRegionsHead(Head):
    """Classifies regions that a teacher has cropped and embedded (`EmbedRegions` or `LoadRegions` in the pipeline).

    The score of a class is the square root of its probability times the objectness of the proposal. Boxes are those of
    the proposals, and there are no masks.

    Args:
        backbone, text_dim: description of the backbone and width of the text embeddings, passed by the model.
        temperature: divides the cosines.
        nms_iou, max_detections, min_score: see `ClassAgnosticMaskRCNN`.

    Raises:
        ValueError: the backbone's embeddings and the texts differ in width.

    Reference: the baseline of arXiv 2104.13921, section 3.2.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        temperature: float = 0.01,
        nms_iou: float = 0.5,
        max_detections: int = 300,
        min_score: float = 0.0,
    ) -> None:
        super().__init__()
        if backbone.embed_dim != text_dim:
            raise ValueError(
                f"CLIP compares regions with texts: the backbone embeds into {backbone.embed_dim} dimensions, the text "
                f"encoder into {text_dim}; use both towers of one CLIP model"
            )
        self.temperature = temperature
        self.nms_iou, self.max_detections, self.min_score = nms_iou, max_detections, min_score

    def forward(self, features: ImageFeatures, text: TextFeatures) -> ImageLogits:
        """Compare whole images with the texts, (B, K); regions come with the samples."""
        embed = F.normalize(known(features.image_embed, "image_embed of the backbone").float(), dim=-1)
        return ImageLogits(text.similarity(embed) / self.temperature, text)

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Raise `ValueError`: there is nothing to train."""
        raise ValueError("CLIPOnRegionsHead is training-free: run `openvocab test`, or train another head (ViLDHead)")

    def postprocess(self, outputs: ImageLogits, samples: Sequence[Sample]) -> list[DetectionPrediction]:
        """Return the classified regions of each image, best first, in its original frame.

        Returns:
            For each image boxes (M, 4) x1 y1 x2 y2, scores (M,) in 0..1 and classes (M,) int64.

        Raises:
            ValueError: a sample without regions, or whose regions differ in width from the texts.
        """
        return [self._detect(outputs.text, sample) for sample in samples]

    def _detect(self, text: TextFeatures, sample: Sample) -> DetectionPrediction:
        """Return the classified regions of one image."""
        regions = sample.regions
        if regions is None:
            raise ValueError(
                f"sample {sample.sample_id!r} has no regions to classify; add LoadRegions or EmbedRegions to the "
                "pipeline"
            )
        scores = (text.similarity(regions.embed.to(text.embed.device)) / self.temperature).softmax(dim=-1)  # (N, K)
        if regions.objectness is not None:
            # geometric mean: the softmax has no background, so that objectness has to reject it
            scores = (scores * regions.objectness.to(scores)[:, None]).sqrt()
        vocabulary = known(sample.vocabulary, f"vocabulary of sample {sample.sample_id!r}")
        if vocabulary.background is not None:
            # a background takes its part of the softmax, and is not detected
            scores[:, vocabulary.background] = 0
        boxes = original_boxes(regions.boxes, sample)
        rows, classes, scores = class_wise_nms(boxes, scores.cpu(), self.nms_iou, self.max_detections, self.min_score)
        return DetectionPrediction(boxes[rows], scores, classes, vocabulary, sample_id=sample.sample_id)
