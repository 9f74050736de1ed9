"""The dict that a pipeline passes from transform to transform, and what the last transform returns."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypedDict

import numpy as np
import torch

from openvocab.structures import FederatedLabels, Instances, Regions, Sample, Size
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary


class ObjectTable(Protocol):
    """The objects of all images of a dataset, such as `InstanceTable`."""

    masks: Any
    """None if there are none."""

    def count(self, image: int) -> int:
        """Return the number of objects of an image."""

    def instances(self, image: int, size: Size) -> Instances:
        """Return the objects of an image of `size` (height, width)."""


class Results(TypedDict, total=False):
    """One item of a dataset on its way through a pipeline.

    The keys of images and label maps are mmcv's, so that mmcv's transforms can be used, and so is the color order: BGR,
    until `PackSample` returns RGB. An entry is present once its dataset or a transform has set it.
    """

    # from the dataset, before the first transform
    sample_id: str
    """Names the item within its dataset."""
    img_path: str
    """The image file; for a sample of a tar shard, the shard and the member's name."""
    img_bytes: bytes
    """The content of the image file, if the dataset has read it; `LoadImage` decodes it and drops it."""
    vocabulary: Vocabulary | None
    """The classes that all class indices of the item refer to; None in training on captions."""
    seg_map_path: str
    """The label-map file."""
    label_reader: Callable[[str, int | None], np.ndarray]
    """(path, largest number of pixels) -> raw label ids, (H, W) uint8 or uint16."""
    label_table: Callable[[np.ndarray, str], np.ndarray]
    """(raw ids, path) -> class indices, (H, W) uint8 or uint16."""
    instance_table: ObjectTable
    """The objects of all images of the dataset."""
    image_position: int
    """Index of the image in `instance_table`."""
    annotated_size: Size
    """(height, width) of the image, as its annotations state it."""
    federated: FederatedLabels
    """Classes that are known to be absent, and those with unlabeled objects (LVIS)."""
    class_ids: Sequence[int]
    """Classes of the whole image; in retrieval, its captions' indices in the vocabulary."""
    captions: Sequence[str]
    """Texts of the image."""
    prompt: Prompt
    """The text of this image alone, from a grounding dataset or `DetectionPrompt`; `instances.classes` index the same
    classes as its owners."""
    phrase_types: tuple[tuple[str, ...], ...]
    """Kinds of each phrase of the prompt; empty if the data states none."""

    # from the transforms
    img: np.ndarray
    """(H, W, 3) uint8, BGR: the image as it is now."""
    ori_shape: Size
    """(height, width) of the file: the frame of predictions and scores."""
    img_shape: Size
    """(height, width) of `img`."""
    gt_seg_map: np.ndarray
    """(H, W) uint8 or uint16 class indices, the maximum of the dtype (255, 65535) where ignored. In training in the
    frame of `img`; loaded after all geometry, at evaluation, in the frame of the file."""
    instances: Instances | None
    """Labeled objects: `boxes` (N, 4) float32 x1 y1 x2 y2 in pixels, in the frame in which they were loaded and then of
    `img`; `classes` (N,); `masks` (N, H, W) bool or None."""
    regions: Regions | None
    """Boxes (N, 4), as in `instances`, with the teacher's embeddings (N, D)."""
    crop_box: tuple[int, int, int, int]
    """(left, top, right, bottom) of the part that `RandomResizedCrop` cut out, in pixels of the image before it."""
    views: list[np.ndarray]
    """V images (H, W, 3) uint8, BGR, of `CropViews`."""
    view_boxes: np.ndarray
    """(V, 4) float32 x1 y1 x2 y2: the part of the image that each view shows, x1 > x2 if it is mirrored."""


class Packed(TypedDict):
    """What `PackSample` and `PackViews` return: one item as the model takes it."""

    image: torch.Tensor
    """(3, H, W) uint8, RGB; (V, 3, H, W) for V views."""
    sample: Sample
    """Labels and metadata."""
