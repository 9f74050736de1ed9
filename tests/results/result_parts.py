"""Results that are made by hand, with known figures."""

import numpy as np
import torch
from pycocotools import mask as rle

from openvocab.logit_map import TensorLogits
from openvocab.results import ClassificationResult, DetectionResult, SemanticResult
from openvocab.vocabulary.vocabulary import Vocabulary

NAMES = Vocabulary.from_names([["cat", "kitten"], "sofa", "floor", "über größe"])
PHOTO = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
LABELS = np.full((6, 8), 1, np.uint8)
LABELS[1:4, 2:5] = 0
LABELS[2, 3] = 3
LABELS[5] = 255


def semantic(scores: bool = True) -> SemanticResult:
    """9 - 1 pixels of cat with a hole of one pixel, 8 unlabeled ones, sofa around; scores of 0.75 at every label."""
    values = torch.full((4, 6, 8), 0.25 / 3)
    values.scatter_(0, torch.from_numpy(LABELS.astype(np.int64)).clamp(max=3)[None], 0.75)
    return SemanticResult(LABELS, NAMES, "a/photo.jpg", PHOTO, TensorLogits(values) if scores else None)


def detection(masks: bool = True) -> DetectionResult:
    """Two cats and a sofa."""
    boxes = torch.tensor([[1.0, 1.0, 4.0, 5.0], [0.0, 0.0, 2.5, 2.0], [3.0, 2.0, 8.0, 6.0]])
    encoded = None
    if masks:
        frames = np.zeros((3, 6, 8), np.uint8)
        frames[0, 1:5, 1:4], frames[1, 0:2, 0:2], frames[2, 2:6, 3:8] = 1, 1, 1
        frames[0, 2, 2] = 0
        encoded = [rle.encode(np.asfortranarray(frame)) for frame in frames]
    scores, classes = torch.tensor([0.9, 0.5, 0.25]), torch.tensor([0, 0, 1])
    return DetectionResult(boxes, scores, classes, NAMES, encoded, "a/photo.jpg", PHOTO, (6, 8))


def classification() -> ClassificationResult:
    """Probabilities 0.1, 0.2, 0.3, 0.4."""
    return ClassificationResult(torch.tensor([0.1, 0.2, 0.3, 0.4]).log(), NAMES, "a/photo.jpg", PHOTO, (6, 8))
