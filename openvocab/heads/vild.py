"""ViLD: a detector whose regions are classified by texts and distilled from CLIP."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from openvocab.argument_checks import check_choice, construct_group
from openvocab.detection.box_head import BoxHead
from openvocab.detection.class_agnostic_mask_rcnn import ClassAgnosticMaskRCNN, boxes_between
from openvocab.detection.region_classifier import RegionClassifier, UnseenLogits, region_class_loss
from openvocab.detection.region_outputs import DescribedRegions, RegionOutputs, join_regions
from openvocab.detection.score_fusion import check_weights, fuse_scores, image_weights
from openvocab.heads.base import Head, shared_vocabulary
from openvocab.losses.distillation import embedding_distillation
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, DetectionPrediction, ImageFeatures, Regions, Sample, TextFeatures, known
from openvocab.vocabulary.vocabulary import Vocabulary

VARIANTS = ("text", "image", "vild", "ensemble")


@HEADS.register_module()
class ViLDHead(Head):
    """Class-agnostic Mask R-CNN; its regions are embedded in CLIP's space.

    | variant | learns from | score of a class |
    | --- | --- | --- |
    | `text` | boxes of base classes | softmax over the texts and a learned background |
    | `image` | CLIP's embeddings of proposals | softmax over the texts, times objectness (square root of the product) |
    | `vild` | both, with one embedding | softmax over the texts and a learned background |
    | `ensemble` | both, with separate layers for each embedding | weighted combination of both (`fuse_scores`) |

    Args:
        backbone, text_dim: description of the backbone and width of the text embeddings, passed by the model.
        detector: arguments of `ClassAgnosticMaskRCNN`.
        variant: see above.
        temperature: divides the cosines.
        test_temperature: divides the cosines at test time; default: `temperature`. DetPro: 0.007 after 0.01.
        distill_weight: weight of the distillation loss. Official: 0.5 (ResNet-50), 1 (ResNet-152), 2 (its ensemble).
        unseen_logits: treatment of classes that the vocabulary marks as unseen in training, see `region_class_loss`.
        base_weight, novel_weight: exponents of the distilled branch in the ensemble, see `image_weights`; their mean
            for all classes if the vocabulary does not mark the seen ones.

    Raises:
        TypeError: an unknown or missing argument in `detector`.
        ValueError: an unknown choice, a temperature that is not positive, or a weight outside 0..1.

    Reference: Gu et al., Open-vocabulary Object Detection via Vision and Language Knowledge Distillation
    (arXiv 2104.13921).
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        detector: Mapping[str, Any],
        variant: str = "ensemble",
        temperature: float = 0.01,
        test_temperature: float | None = None,
        distill_weight: float = 0.5,
        unseen_logits: UnseenLogits = "minus infinity",
        base_weight: float = 1 / 3,
        novel_weight: float = 2 / 3,
    ) -> None:
        super().__init__()
        check_choice("variant", variant, VARIANTS)
        check_choice("unseen_logits", unseen_logits, get_args(UnseenLogits))
        if test_temperature is not None and test_temperature <= 0:
            raise ValueError(f"test_temperature: expected more than 0, got {test_temperature}")
        check_weights(base_weight, novel_weight)
        self.variant, self.unseen_logits = variant, unseen_logits
        self.distill_weight = distill_weight
        self.base_weight, self.novel_weight = base_weight, novel_weight
        self.test_scale = 1.0 if test_temperature is None else temperature / test_temperature
        self.detector = construct_group("detector", detector, ClassAgnosticMaskRCNN, backbone=backbone)
        self.layers, self.embeddings = self.detector.pyramid.layers, False
        dim = self.detector.box_head.out_dim
        self.classifier = RegionClassifier(
            dim, text_dim, temperature, background=None if variant == "image" else "learned"
        )
        self.image_box_head: BoxHead | None = None
        self.image_classifier: RegionClassifier | None = None
        if variant == "ensemble":
            self.image_box_head = self.detector.new_box_head()
            self.image_classifier = RegionClassifier(dim, text_dim, temperature, background=None)

    def forward(self, features: ImageFeatures, text: TextFeatures) -> RegionOutputs:
        """Propose N regions, refine their boxes, and compare them with the texts.

        Returns:
            Boxes (N_i, 4) of each image, padded input frame, objectness (N,), and logits: (N, K + 1) of the classifier
            with a background, (N, K) of the distilled one; the variants have one of them or both.
        """
        regions = self.decoded(features)
        about = regions.maps, regions.boxes, regions.objectness
        # of cosines / temperature, times temperature / test_temperature
        logits = self.test_scale * self.classifier.logits(regions.embed, text)
        if self.variant == "image":
            return RegionOutputs(*about, image_logits=logits)
        if self.image_classifier is None:
            return RegionOutputs(*about, text_logits=logits)
        image_logits = self.test_scale * self.image_classifier.logits(
            known(regions.image_embed, "image_embed of the regions"), text
        )
        return RegionOutputs(*about, text_logits=logits, image_logits=image_logits)

    def decode(self, features: ImageFeatures) -> DescribedRegions:
        """Propose N regions, refine their boxes, and embed them for each classifier."""
        maps, proposals = self.detector.propose(features)
        objectness = torch.cat(proposals.objectness)

        # as many regions at a time as fit into memory
        def describe(start: int, stop: int) -> tuple[list[Tensor], Tensor, Tensor | None]:
            boxes = boxes_between(proposals.boxes, start, stop)
            roi_features = self.detector.align(maps, boxes)  # (N, C, s, s)
            regions = self.detector.box_head(roi_features)  # (N, F)
            return self.detector.refine(regions, boxes), self.classifier.embed(regions), self._image_embed(roi_features)

        boxes, embed, image_embed = join_regions(self.detector.regions_at_once.run(describe, len(objectness)))
        return DescribedRegions(maps, boxes, objectness, embed, image_embed)

    def _image_embed(self, roi_features: Tensor) -> Tensor | None:
        """Return the embeddings (N, D) of the branch that is only distilled, of regions (N, C, s, s)."""
        if self.image_classifier is None or self.image_box_head is None:
            return None
        return self.image_classifier.embed(self.image_box_head(roi_features))

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the losses of the detector, of the classes and of the distillation.

        The last two are {"loss_class": (), "loss_distill": ()}; `image` lacks the former, `text` the latter.

        Raises:
            ValueError: a sample without labeled objects, or (except for `text`) without the teacher's regions.
        """
        maps, sampled, losses = self.detector.training_regions(features, samples)
        roi_features = self.detector.align(maps, sampled.boxes)  # (S, C, s, s)
        teacher_regions = [] if self.variant == "text" else _teacher_regions(samples, self.variant)
        distilled_features = None
        if teacher_regions:
            distilled_features = self.detector.align(maps, [part.boxes for part in teacher_regions])  # (T, C, s, s)
        regions, distilled = self._box_features(roi_features, distilled_features)
        losses |= self.detector.losses(maps, sampled, regions)
        if self.variant != "image":
            logits = self.classifier.logits(self.classifier.embed(regions), text)  # (S, K + 1)
            losses["loss_class"] = region_class_loss(
                logits, torch.cat(sampled.classes), shared_vocabulary(samples), self.unseen_logits
            )
        if distilled is not None:
            teacher = torch.cat([part.embed for part in teacher_regions])  # (T, D)
            embed = (self.image_classifier or self.classifier).embed(distilled)
            losses["loss_distill"] = self.distill_weight * embedding_distillation(embed, teacher)
        return losses

    def _box_features(self, sampled: Tensor, distilled: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the features (S, F) of sampled regions (S, C, s, s) and (T, F) of the teacher's (T, C, s, s).

        A box head that serves both gets them in one batch, so that its batch norms share statistics, as officially.
        """
        if distilled is None:
            return self.detector.box_head(sampled), None
        if self.image_box_head is not None:
            return self.detector.box_head(sampled), self.image_box_head(distilled)
        features = self.detector.box_head(torch.cat([sampled, distilled]))  # (S + T, F)
        of_sampled, of_distilled = features.split([len(sampled), len(distilled)])
        return of_sampled, of_distilled

    def postprocess(self, outputs: RegionOutputs, samples: Sequence[Sample]) -> list[DetectionPrediction]:
        """Return the detections of each image, best first, in its original frame.

        Returns:
            For each image boxes (M, 4) x1 y1 x2 y2, scores (M,) in 0..1, classes (M,) int64, and masks if trained.
        """
        return self.detector.detections(outputs, self.scores(outputs, shared_vocabulary(samples)), samples)

    def scores(self, outputs: RegionOutputs, vocabulary: Vocabulary) -> Tensor:
        """Return the scores (N, K) of all regions, in 0..1."""
        if outputs.text_logits is None:
            image_logits = known(outputs.image_logits, "image_logits of the regions")
            # geometric mean: this softmax has no background, so that objectness has to reject it
            return (image_logits.softmax(dim=-1) * outputs.objectness[:, None]).sqrt()
        # the background takes its part of the softmax, and is then dropped: (N, K)
        text_scores = outputs.text_logits.softmax(dim=-1)[:, :-1]
        if outputs.image_logits is None:
            return text_scores
        unknown = (self.base_weight + self.novel_weight) / 2
        weights = image_weights(vocabulary, self.base_weight, self.novel_weight, unknown)
        return fuse_scores(text_scores, outputs.image_logits.softmax(dim=-1), weights)

    def proposals(self, features: ImageFeatures) -> tuple[list[Tensor], list[Tensor]]:
        """Return the boxes [(N_i, 4)] of each image, best first, in the padded input frame, and objectness [(N_i,)]."""
        proposals = self.detector.propose(features)[1]
        return proposals.boxes, proposals.objectness


def _teacher_regions(samples: Sequence[Sample], variant: str) -> list[Regions]:
    """Return the teacher's regions of each image."""
    regions = []
    for sample in samples:
        if sample.regions is None:
            raise ValueError(
                f"sample {sample.sample_id!r} has no regions of a teacher, from which variant={variant!r} learns; "
                "add LoadRegions (or EmbedRegions) to the pipeline, or take variant='text'"
            )
        regions.append(sample.regions)
    return regions
