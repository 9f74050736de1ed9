"""From the loader's uint8 images to one normalized, padded batch on the device."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, TypeVar, get_args

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from openvocab.argument_checks import check_choice
from openvocab.pixel_batch import PixelBatch
from openvocab.structures import Instances, Regions, Sample, Size, ignore_index, known

Padding = Literal["black", "mean"]
Objects = TypeVar("Objects", Instances | None, Regions | None)


class BatchPreprocessor(BaseDataPreprocessor):
    """Stack images as uint8, then move, normalize and pad them on the device.

    Stacking float32 images would be 30 times as much work for the loader.

    Args:
        mean, std: (3,) RGB, of pixel values in 0..255, as the backbone expects them.
        stride: the batch is padded at the right and the bottom to a multiple of it: images with `padding`, label maps
            with the ignore index.
        padding: `black`, or `mean`, the pixel that is zero after normalization.

    Raises:
        ValueError: `padding` is neither.
    """

    scale: Tensor
    shift: Tensor
    padding: Tensor
    """(1, 3, 1, 1), the normalized pixel of the padding."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], stride: int, padding: Padding = "black") -> None:
        super().__init__()
        check_choice("padding", padding, get_args(Padding))
        self.stride = stride
        scale = 1 / torch.tensor(std)
        self.register_buffer("scale", scale.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", (-torch.tensor(mean) * scale).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("padding", self.shift if padding == "black" else 0 * self.shift, persistent=False)
        self._is_black = padding == "black"

    def forward(self, data: dict, training: bool = False) -> dict:
        """Turn `{"image": [(3, H, W) uint8], "sample": [Sample]}` into `{"images": (B, 3, H, W), "samples": [...]}`.

        Images of V views each, (V, 3, H, W), become (V * B, 3, H, W): the first views of all samples, then the second.

        Raises:
            ValueError: samples with different numbers of views.
        """
        images = self._batch(_view_by_view(data["image"]))
        samples: list[Sample] = data["sample"]
        padded = [self._pad_targets(sample, images.size, training) for sample in samples]
        return {"images": images.whole(), "samples": padded}

    def pixels(self, data: dict) -> dict:
        """Return a batch for prediction as `forward` does, but as a `PixelBatch`, which normalizes images when read."""
        images, samples = self._batch(_view_by_view(data["image"])), data["sample"]
        return {"images": images, "samples": [self._pad_targets(sample, images.size, False) for sample in samples]}

    def _batch(self, images: Sequence[Tensor]) -> PixelBatch:
        padding = None if self._is_black else self.padding
        return PixelBatch(images, self._padded_size(images), self.scale, self.shift, padding)

    def _padded_size(self, images: Sequence[Tensor]) -> Size:
        """Return the smallest multiple of the stride, in both directions, that all images (3, H_i, W_i) fit into."""
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        # Floor division of a negative number rounds its amount up.
        return -(-height // self.stride) * self.stride, -(-width // self.stride) * self.stride

    def _pad_targets(self, sample: Sample, padded_size: Size, training: bool) -> Sample:
        """Return a sample with its padded size; in training with its targets on the device, the label map padded."""
        label_map = sample.label_map
        if label_map is not None and training:
            bottom, right = padded_size[0] - label_map.shape[0], padded_size[1] - label_map.shape[1]
            # Padded pixels must not be learned; which value is ignored depends on the number of classes.
            ignored = ignore_index(len(known(sample.vocabulary, f"vocabulary of sample {sample.sample_id!r}")))
            label_map = F.pad(label_map, (0, right, 0, bottom), value=ignored).to(self.device, non_blocking=True)
        padded = dataclasses.replace(sample, padded_size=padded_size, label_map=label_map)
        if training:
            padded.instances, padded.regions = self._on_device(sample.instances), self._on_device(sample.regions)
        return padded

    def _on_device(self, objects: Objects) -> Objects:
        """Move boxes and what belongs to them; padding right and below moves no box, and masks need none of it."""
        if objects is None:
            return None
        tensors = ((field.name, getattr(objects, field.name)) for field in dataclasses.fields(objects))
        moved = {name: rows.to(self.device, non_blocking=True) for name, rows in tensors if rows is not None}
        return dataclasses.replace(objects, **moved)


def _view_by_view(images: Sequence[Tensor]) -> list[Tensor]:
    """Return the first views (3, H, W) of all samples, then the second ones; a plain image is its only view."""
    views = [tuple(image) if image.ndim == 4 else (image,) for image in images]
    counts = sorted({len(of_sample) for of_sample in views})
    if len(counts) > 1:
        raise ValueError(f"samples of one batch have {counts} views; all need the same number")
    return [of_sample[view] for view in range(counts[0]) for of_sample in views]
