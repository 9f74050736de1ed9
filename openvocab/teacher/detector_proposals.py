"""Proposals of a trained detector."""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from openvocab.checkpoint.checkpoint import load_state_dict
from openvocab.checkpoint.weights_digest import weights_digest
from openvocab.config.config import read_config
from openvocab.datasets.annotations.box_checks import check_boxes
from openvocab.predictor import Predictor, image_steps, load
from openvocab.registry import PROPOSAL_SOURCES
from openvocab.structures import Size


@PROPOSAL_SOURCES.register_module()
class DetectorProposals:
    """The best proposals of a detector that was trained on base classes, as in ViLD.

    The head has a method `proposals(features: ImageFeatures)` that returns, for each image, boxes (N, 4) x1 y1 x2 y2 in
    the padded input frame, best first, and their objectness (N,) in 0..1. The detector is loaded at the first image.

    Args:
        config, checkpoint: those of the detector; see `openvocab.load`.
        per_image: maximum number of boxes per image, the best ones; 300 in the paper.
        max_overlap: IoU threshold of non-maximum suppression; None: no suppression.
        min_objectness: boxes with a lower objectness are dropped.
        min_side: boxes with a shorter side, in pixels of the image, are dropped: their crops would show nothing.
        device: default: CUDA if available, else the CPU.

    Raises:
        FileNotFoundError: no such config or checkpoint.
        ValueError: a number out of range; at the first image, a head without proposals.
    """

    reads_labels = False

    def __init__(
        self,
        config: str,
        checkpoint: str,
        per_image: int = 300,
        max_overlap: float | None = None,
        min_objectness: float = 0.0,
        min_side: float = 4.0,
        device: str | None = None,
    ) -> None:
        if per_image < 1 or not (max_overlap is None or 0 < max_overlap <= 1):
            raise ValueError(f"expected per_image >= 1 and max_overlap in 0..1, got {per_image} and {max_overlap}")
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(f"proposals: no such checkpoint: {checkpoint}")
        self.config, self.checkpoint, self.device = read_config(config), checkpoint, device
        self.per_image, self.max_overlap = per_image, max_overlap
        self.min_objectness, self.min_side = min_objectness, min_side

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The type and its arguments, digests of weights and network, and the sizes of its inputs."""
        parts = [self.config.model, image_steps(self.config)]
        detector = json.dumps(parts, default=_name_of, sort_keys=True)
        return {
            "type": type(self).__name__,
            "detector": hashlib.sha256(detector.encode()).hexdigest(),
            "detector_weights": weights_digest(load_state_dict(self.checkpoint)),
            "per_image": self.per_image,
            "max_overlap": self.max_overlap,
            "min_objectness": self.min_objectness,
            "min_side": self.min_side,
        }

    def __call__(self, results: dict) -> tuple[Tensor, Tensor]:
        """Return the best proposals (N, 4) x1 y1 x2 y2, clipped to the image, and their objectness (N,)."""
        boxes, scores, size = self._detect(results)
        clipped, unusable = check_boxes(boxes, np.tile(size, (len(boxes), 1)))  # (N, 4)
        usable = ~np.logical_or.reduce(list(unusable.values())) & (scores >= self.min_objectness)
        usable &= (clipped[:, 2:] - clipped[:, :2] >= self.min_side).all(axis=1)
        proposals, objectness = torch.from_numpy(clipped[usable]), torch.from_numpy(scores[usable])
        if self.max_overlap is not None:
            # nms returns rows by descending score, so that the first `per_image` below are the best.
            rows = nms(proposals, objectness, self.max_overlap)
            proposals, objectness = proposals[rows], objectness[rows]
        return proposals[: self.per_image], objectness[: self.per_image]

    @torch.inference_mode()
    def _detect(self, results: dict) -> tuple[np.ndarray, np.ndarray, Size]:
        """Run the detector on a single image, so that the boxes do not depend on other images of a batch.

        Returns:
            Boxes (N, 4) float64 in the frame of the image, their objectness (N,) float32, and (height, width) of the
            image.
        """
        image = np.ascontiguousarray(results["img"][..., ::-1])  # BGR -> RGB
        pixels, sample = self._predictor.prepare(image)
        model = self._predictor.model
        batch = model.data_preprocessor({"image": [pixels], "sample": [sample]})
        (boxes,), (objectness,) = model.head.proposals(model.encode(batch["images"]))
        scale = [original / resized for original, resized in zip(sample.original_size, sample.input_size)]
        # a scale is enough: padding is at the right and bottom, so that it moves no box
        boxes = boxes.double().cpu().numpy() * (2 * scale[::-1])
        return boxes, objectness.float().cpu().numpy(), sample.original_size

    @cached_property
    def _predictor(self) -> Predictor:
        """The detector, loaded when it is first used."""
        predictor = load(self.config, self.checkpoint, self.device)
        if not predictor.model.head.makes_proposals:
            raise ValueError(f"{self.config.filename}: {type(predictor.model.head).__name__} makes no proposals")
        return predictor


def _name_of(value: Any) -> str:
    """Return the name of a class or function of a config, which must not include its address."""
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else str(value)
