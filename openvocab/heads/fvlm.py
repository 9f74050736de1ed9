"""F-VLM: a detector on a frozen CLIP, which also classifies every region itself."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.argument_checks import check_choice, construct_group
from openvocab.detection.class_agnostic_mask_rcnn import ClassAgnosticMaskRCNN, boxes_between
from openvocab.detection.region_classifier import Background, RegionClassifier, region_class_loss, region_cosines
from openvocab.detection.region_outputs import DescribedRegions, RegionOutputs, join_regions
from openvocab.detection.score_fusion import check_weights, fuse_scores, fuse_with_background, image_weights
from openvocab.heads.base import Head, shared_vocabulary
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, DetectionPrediction, ImageFeatures, Sample, TextFeatures, known
from openvocab.vocabulary.vocabulary import Vocabulary

ScoreRule = Literal["with background", "without background"]


@HEADS.register_module()
class FVLMHead(Head):
    """Class-agnostic Mask R-CNN whose regions are also embedded by CLIP's own pooling of its last map.

    The backbone must be a CLIP tower and stay frozen (`trainable="none"`), so that it does not forget the novel classes
    and nothing needs to be distilled. Only the pyramid, the proposal network and the region heads are trained.

    Args:
        backbone, text_dim: description of the backbone and width of the text embeddings, passed by the model.
        detector: arguments of `ClassAgnosticMaskRCNN`.
        temperature: divides the cosines of the trained classifier.
        clip_temperature: divides the cosines of CLIP's embedding.
        clip_region_size: cells along each side of a region that is pooled from CLIP's last map, with the settings of
            `detector`; 7 for a ResNet-50 at 224 px. For a vision transformer the region is the mean of its patch
            embeddings.
        base_weight, novel_weight: exponents of CLIP's scores, see `image_weights`; `novel_weight` for all classes if
            the vocabulary does not mark the seen ones. Official: 0.2 and 0.45 on COCO, 0.35 and 0.65 on LVIS.
        background: what represents the background: the embedding of the "empty text" in both classifiers (official), or
            a "learned" vector in the trained one, and nothing in CLIP's.
        background_weight: factor of the class loss of regions without an object.
        scores: "with background", as released: both softmaxes include the background, and the fused scores are
            normalized together with the detector's background (`fuse_with_background`). "without background" is the
            equation of the paper (`fuse_scores`): CLIP's softmax is over the classes alone.

    Raises:
        TypeError: an unknown or missing argument in `detector`.
        ValueError: a backbone without a joint space, or with another one than the text encoder; a temperature that is
            not positive; a weight outside 0..1, an unknown choice.

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
        background: Background = "empty text",
        background_weight: float = 0.9,
        scores: ScoreRule = "with background",
    ) -> None:
        super().__init__()
        if backbone.embed_dim != text_dim:
            raise ValueError(
                f"F-VLM compares CLIP's regions with texts: the backbone embeds into {backbone.embed_dim} dimensions, "
                f"the text encoder into {text_dim}; use both towers of one CLIP model"
            )
        if clip_temperature <= 0:
            raise ValueError(f"clip_temperature: expected more than 0, got {clip_temperature}")
        check_choice("scores", scores, get_args(ScoreRule))
        if background_weight < 0:
            raise ValueError(f"background_weight: expected 0 or more, got {background_weight}")
        check_weights(base_weight, novel_weight)
        self.detector = construct_group("detector", detector, ClassAgnosticMaskRCNN, backbone=backbone)
        self.last = len(backbone.hidden_dims) - 1
        self.layers = tuple(sorted({*self.detector.pyramid.layers, self.last}))
        self.classifier = RegionClassifier(self.detector.box_head.out_dim, text_dim, temperature, background)
        self.empty_text = background == "empty text"
        self.align = self.detector.align_options.build(backbone.hidden_strides[self.last :], clip_region_size)
        self.clip_temperature = clip_temperature
        self.base_weight, self.novel_weight = base_weight, novel_weight
        self.background_weight, self.score_rule = background_weight, scores

    def forward(self, features: ImageFeatures, text: TextFeatures) -> RegionOutputs:
        """Propose N regions, and classify each with the trained classifier and with CLIP.

        Returns:
            Refined boxes (N_i, 4) of each image, padded input frame, objectness (N,), logits (N, K + 1) of the trained
            classifier, and (N, K), or (N, K + 1) with an empty text, of CLIP.
        """
        regions = self.decoded(features)
        logits = self.classifier.logits(regions.embed, text)
        image_logits = self._clip_logits(regions.image_embed, text)
        return RegionOutputs(regions.maps, regions.boxes, regions.objectness, logits, image_logits)

    def decode(self, features: ImageFeatures) -> DescribedRegions:
        """Propose N regions, refine their boxes, and embed them by the trained classifier and by CLIP."""
        maps, proposals = self.detector.propose(features)
        objectness = torch.cat(proposals.objectness)

        # as many regions at a time as fit into memory
        def describe(start: int, stop: int) -> tuple[list[Tensor], Tensor, Tensor]:
            boxes = boxes_between(proposals.boxes, start, stop)
            regions = self.detector.box_head(self.detector.align(maps, boxes))  # (N, F)
            return (
                self.detector.refine(regions, boxes),
                self.classifier.embed(regions),
                self.clip_embed(features, boxes),
            )

        boxes, embed, clip_embed = join_regions(self.detector.regions_at_once.run(describe, len(objectness)))
        return DescribedRegions(maps, boxes, objectness, embed, clip_embed)

    def clip_embed(self, features: ImageFeatures, boxes: Sequence[Tensor]) -> Tensor:
        """Return CLIP's embeddings (N, D) float32, unit norm, of all boxes; boxes [(N_i, 4)] per image."""
        if features.pool is None:
            patches = known(features.patch_embed, "patch_embed of the backbone")
            embed = self.align([patches], boxes).mean(dim=(2, 3))  # (N, D)
        else:
            # CLIP's pooling of its whole map, applied to the map of a region
            embed = features.pool(self.align([features.hidden[self.last]], boxes))
        return F.normalize(embed.float(), dim=-1)

    def _clip_logits(self, clip_embed: Tensor | None, text: TextFeatures) -> Tensor:
        """Return the logits (N, K) float32 of CLIP's embeddings (N, D); (N, K + 1) with an empty text."""
        empty = text.empty if self.empty_text else None
        embed = known(clip_embed, "image_embed of the regions")
        return region_cosines(embed, text, empty) / self.clip_temperature

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the losses of the detector, and {"loss_class": ()}, the cross entropy over sampled regions.

        Raises:
            ValueError: a sample without labeled objects.
        """
        maps, sampled, losses = self.detector.training_regions(features, samples)
        regions = self.detector.box_head(self.detector.align(maps, sampled.boxes))  # (S, F)
        losses |= self.detector.losses(maps, sampled, regions)
        logits = self.classifier.logits(self.classifier.embed(regions), text)  # (S, K + 1)
        losses["loss_class"] = region_class_loss(
            logits, torch.cat(sampled.classes), shared_vocabulary(samples), background_weight=self.background_weight
        )
        return losses

    def postprocess(self, outputs: RegionOutputs, samples: Sequence[Sample]) -> list[DetectionPrediction]:
        """Return the detections of each image, best first, in its original frame.

        Returns:
            For each image boxes (M, 4) x1 y1 x2 y2, scores (M,) in 0..1, classes (M,) int64, and masks if trained.
        """
        return self.detector.detections(outputs, self.scores(outputs, shared_vocabulary(samples)), samples)

    def scores(self, outputs: RegionOutputs, vocabulary: Vocabulary) -> Tensor:
        """Return the scores (N, K) of all regions, in 0..1."""
        count = len(vocabulary)
        weights = image_weights(vocabulary, self.base_weight, self.novel_weight, unknown_weight=self.novel_weight)
        image_logits = known(outputs.image_logits, "image_logits of the regions")
        text_scores = known(outputs.text_logits, "text_logits of the regions").softmax(dim=-1)  # (N, K + 1)
        if self.score_rule == "with background":
            return fuse_with_background(text_scores, image_logits.softmax(dim=-1)[:, :count], weights)
        # the background is dropped after the softmax of the detector, but before that of CLIP
        return fuse_scores(text_scores[:, :count], image_logits[:, :count].softmax(dim=-1), weights)
