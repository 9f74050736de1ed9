"""F-VLM: a detector on a frozen CLIP, which keeps its own opinion of every region."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.detection.class_agnostic_mask_rcnn import ClassAgnosticMaskRCNN, boxes_between
from openvocab.detection.region_align import RegionAlign
from openvocab.detection.region_classifier import RegionClassifier, region_class_loss
from openvocab.detection.region_outputs import RegionOutputs, join_regions
from openvocab.detection.score_fusion import check_weights, fuse_scores
from openvocab.heads.base import Head, shared_vocabulary
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, DetectionPrediction, ImageFeatures, Sample, TextFeatures


@HEADS.register_module()
class FVLMHead(Head):
    """Class-agnostic Mask R-CNN whose regions are also embedded by CLIP's own pooling of its last map.

    The backbone must be a CLIP tower and stay frozen (`trainable="none"`): what it learned of novel classes is not
    unlearned, so that nothing needs to be distilled. Only the pyramid, the proposals and the region heads are trained.

    Args:
        backbone, text_dim: facts of the neighbours, given by the model.
        detector: arguments of `ClassAgnosticMaskRCNN`.
        temperature: divides the cosines of the trained classifier.
        clip_temperature: divides those of CLIP's embedding.
        clip_region_size: cells a side at which CLIP's last map is read; 7 for a ResNet-50 at 224 px. A vision
            transformer's regions are the mean of its patch embeddings there.
        base_weight, novel_weight: of CLIP's opinion, see `fuse_scores`. Official: 0.2 and 0.45 on COCO, 0.35 and 0.65
            on LVIS.

    Raises:
        ValueError: a backbone without joint space, or with another one than the text encoder; a temperature that is
            not positive; a weight outside 0..1.

    Reference: Kuo et al., F-VLM: Open-Vocabulary Object Detection upon Frozen Vision and Language Models
    (arXiv 2209.15639).
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        detector: Mapping[str, Any],
        temperature: float = 0.01,
        clip_temperature: float = 0.01,
        clip_region_size: int = 7,
        base_weight: float = 0.2,
        novel_weight: float = 0.45,
    ) -> None:
        super().__init__()
        if backbone.embed_dim != text_dim:
            raise ValueError(
                f"F-VLM compares CLIP's regions with texts: the backbone embeds into {backbone.embed_dim} dimensions, "
                f"the text encoder into {text_dim}; use both towers of one CLIP model"
            )
        if clip_temperature <= 0:
            raise ValueError(f"clip_temperature: expected more than 0, got {clip_temperature}")
        check_weights(base_weight, novel_weight)
        self.detector = ClassAgnosticMaskRCNN(backbone, **detector)
        self.last = len(backbone.hidden_dims) - 1
        self.layers = tuple(sorted({*self.detector.pyramid.layers, self.last}))
        self.classifier = RegionClassifier(self.detector.box_head.out_dim, text_dim, temperature)
        self.align = RegionAlign(backbone.hidden_strides[self.last :], clip_region_size)
        self.clip_temperature = clip_temperature
        self.base_weight, self.novel_weight = base_weight, novel_weight

    def forward(self, features: ImageFeatures, text: TextFeatures) -> RegionOutputs:
        """Propose regions, and compare each with the texts twice."""
        maps, proposals = self.detector.propose(features)
        objectness = torch.cat(proposals.objectness)

        def describe(start: int, stop: int) -> tuple[list[Tensor], Tensor, Tensor]:
            boxes = boxes_between(proposals.boxes, start, stop)
            regions = self.detector.box_head(self.detector.align(maps, boxes))  # (N, F)
            logits = self.classifier.logits(self.classifier.embed(regions), text)
            return self.detector.refine(regions, boxes), logits, self._clip_logits(features, boxes, text)

        boxes, logits, image_logits = join_regions(self.detector.regions_at_once.run(describe, len(objectness)))
        return RegionOutputs(maps, boxes, objectness, text_logits=logits, image_logits=image_logits)

    def clip_embed(self, features: ImageFeatures, boxes: Sequence[Tensor]) -> Tensor:
        """Return CLIP's embedding (N, D), unit norm, of the boxes of each image."""
        if features.pool is None:
            embed = self.align([features.patch_embed], boxes).mean(dim=(2, 3))
        else:
            embed = features.pool(self.align([features.hidden[self.last]], boxes))
        return F.normalize(embed.float(), dim=-1)

    def _clip_logits(self, features: ImageFeatures, boxes: Sequence[Tensor], text: TextFeatures) -> Tensor:
        """Return (N, K) float32 of CLIP's embeddings of the boxes of each image."""
        embed = self.clip_embed(features, boxes)
        with torch.autocast(embed.device.type, enabled=False):  # bfloat16 would round a cosine to 1/256
            return text.similarity(embed) / self.clip_temperature

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the losses of the detector, and `loss_class` of its classifier.

        Raises:
            ValueError: a sample without labelled objects.
        """
        maps, sampled, losses = self.detector.training_regions(features, samples)
        regions = self.detector.box_head(self.detector.align(maps, sampled.boxes))  # (S, F)
        losses |= self.detector.losses(maps, sampled, regions)
        logits = self.classifier.logits(self.classifier.embed(regions), text)  # (S, K + 1)
        losses["loss_class"] = region_class_loss(logits, torch.cat(sampled.classes), shared_vocabulary(samples))
        return losses

    def postprocess(self, outputs: RegionOutputs, samples: Sequence[Sample]) -> list[DetectionPrediction]:
        """Return the detections of each image, best first, in its original frame."""
        scores = fuse_scores(
            outputs.text_logits.softmax(dim=-1)[:, :-1],
            outputs.image_logits.softmax(dim=-1),
            shared_vocabulary(samples),
            self.base_weight,
            self.novel_weight,
        )
        return self.detector.detections(outputs, scores, samples)
