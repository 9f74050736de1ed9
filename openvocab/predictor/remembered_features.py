"""The features of images that a model has seen, so that another vocabulary need not wait for its backbone."""

from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor

from openvocab.model import OpenVocabModel
from openvocab.structures import ImageFeatures

Value = TypeVar("Value")


class RememberedFeatures:
    """Encodes images as a model does, and keeps what it made of each batch of pixels (`ImageEncoder`).

    An inference strategy cuts an image into the same windows for each vocabulary. They are recognized by their pixels,
    so that no strategy needs to know; windows of another size, or other batches of them, are encoded anew. Threads wait
    for each other, since the second one needs what the first one computes.

    Args:
        model: on its device.
    """

    def __init__(self, model: OpenVocabModel) -> None:
        self.model = model
        self._features: list[tuple[Tensor, ImageFeatures]] = []
        self._pooled: list[tuple[Tensor, Tensor]] = []
        self._lock = Lock()

    def encode(self, images: Tensor) -> ImageFeatures:
        """Return the features of normalized images (B, 3, H, W), with what the head makes of them without texts."""
        with self._lock:
            return _remembered(self._features, images, self._encode)

    def encode_pooled(self, images: Tensor) -> Tensor:
        """Return the pooled embedding (B, D) of normalized images (B, 3, H, W)."""
        with self._lock:
            return _remembered(self._pooled, images, self.model.encode_pooled)

    def _encode(self, images: Tensor) -> ImageFeatures:
        features = self.model.encode(images)
        return replace(features, decoded=self.model.head.decode(features))


def _remembered(known: list[tuple[Tensor, Value]], images: Tensor, compute: Callable[[Tensor], Value]) -> Value:
    """Return the value of equal images among those known, else compute and add it."""
    for seen, value in known:
        if seen.shape == images.shape and torch.equal(seen, images):
            return value
    value = compute(images)
    # a copy: the caller may write into its tensor
    known.append((images.clone(), value))
    return value
