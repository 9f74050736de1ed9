"""What the families of foreign models have in common: the parts that transformers loads, and their contract."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from openvocab.detection.scored_boxes import DetectionChoice, choose_detections, merge_detections
from openvocab.postprocess import semantic_predictions
from openvocab.structures import DetectionPrediction, Prediction, Sample, SemanticPrediction
from openvocab.vocabulary.vocabulary import Vocabulary


@dataclass
class ForeignParts:
    """What transformers loads from the folder of a model."""

    network: Any
    tokenizer: Any
    image_processor: Any


@dataclass(frozen=True)
class FamilySettings:
    """What every family is given in addition to its parts."""

    templates: tuple[str, ...]
    """Sentences with `{}` for a name."""
    names_at_once: int
    """Names per pass through the part of the network that sees names and image together."""
    detections: DetectionChoice
    """Which boxes become detections; read by detectors."""


class ForeignFamily(ABC, nn.Module):
    """One architecture of transformers: how it reads names and an image, and what it predicts.

    Images are predicted one by one, so that no padding makes a prediction depend on the others of its batch.

    Args:
        parts: what transformers has loaded.
        settings: see there.
    """

    architecture: ClassVar[dict[str, str]]
    """{`model_type` in config.json: class of transformers}."""
    names_at_once: ClassVar[int] = 1000
    """Default of `FamilySettings.names_at_once`."""
    detections: ClassVar[DetectionChoice] = DetectionChoice()
    """Default of `FamilySettings.detections`: what transformers' own postprocessing does, without its score limit."""

    def __init__(self, parts: ForeignParts, settings: FamilySettings) -> None:
        super().__init__()
        self.network = parts.network
        self.tokenizer, self.image_processor = parts.tokenizer, parts.image_processor
        self.settings = settings

    @abstractmethod
    def encode_texts(self, vocabulary: Vocabulary) -> Any:
        """Return what `predict` needs of a vocabulary; it is computed once and kept."""

    @abstractmethod
    def predict(self, image: Tensor, sample: Sample, texts: Any) -> Prediction:
        """Predict one image.

        Args:
            image: (3, H, W) uint8 RGB, on the CPU.
            sample: its sizes and vocabulary.
            texts: result of `encode_texts`.

        Returns:
            A prediction in the frame of the original image.
        """

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return next(self.network.parameters()).device

    def pixels(self, image: Tensor, **options: Any) -> dict[str, Tensor]:
        """Return the inputs of the network for an image (3, H, W) uint8, by its own image processor."""
        inputs = self.image_processor(images=image, input_data_format="channels_first", return_tensors="pt", **options)
        return {name: value.to(self.device) for name, value in inputs.items()}


class ForeignDetector(ForeignFamily):
    """A family that predicts boxes with a score for every class."""

    @abstractmethod
    def scored_boxes(self, image: Tensor, sample: Sample, texts: Any) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
        """Yield the candidates of one image, once or for several groups of classes in turn.

        Args:
            image, sample, texts: see `predict`.

        Yields:
            Boxes (N, 4) x1 y1 x2 y2 relative to the image, 0..1 inside it; scores (N, k) float32 in 0..1; and the
            indices of the k classes.
        """

    def predict(self, image: Tensor, sample: Sample, texts: Any) -> DetectionPrediction:
        """Return the detections of one image, best first, in its original frame; see `ForeignFamily.predict`."""
        height, width = sample.original_size
        choice = self.settings.detections
        parts = []
        for boxes, scores, classes in self.scored_boxes(image, sample, texts):
            limits = boxes.new_tensor([width, height] * 2)
            inside = (boxes.float() * limits).clamp(min=0).minimum(limits)
            parts.append(choose_detections(inside, scores, sample, choice, classes))
        return merge_detections(parts, choice.max_detections)


class ForeignSegmenter(ForeignFamily):
    """A family that predicts a logit for every pixel and class; a pixel gets the class with the largest one."""

    @abstractmethod
    def logits(self, image: Tensor, texts: Any) -> Tensor:
        """Return logits (K, h, w) float32 of any h and w, which cover the whole image (3, H, W) uint8."""

    def predict(self, image: Tensor, sample: Sample, texts: Any) -> SemanticPrediction:
        """Label every pixel of the original image; see `ForeignFamily.predict`."""
        return semantic_predictions(self.logits(image, texts)[None], [sample])[0]


def corners(cxcywh: Tensor) -> Tensor:
    """Return boxes (N, 4) given by center and size as x1 y1 x2 y2."""
    center, size = cxcywh.split(2, dim=-1)
    return torch.cat([center - size / 2, center + size / 2], dim=-1)
