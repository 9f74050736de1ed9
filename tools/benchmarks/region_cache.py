"""From regions of images to CLIP embeddings: the teacher's batches against one crop at a time."""

from functools import partial
from typing import Literal

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.comparison import Row, Sides
from benchmarks.errors import relative_error
from openvocab.clip.open_clip_model import create_clip
from openvocab.structures import Size
from openvocab.teacher.region_crops import crop_windows
from openvocab.teacher.region_teacher import RegionTeacher

SCALES = (1.0, 1.5)


def prepare(
    dtype: Literal["float32", "bfloat16"],
    model: str = "ViT-B-32",
    size: Size = (480, 640),
    num_images: int = 2,
    num_boxes: int = 32,
    device: str = "cpu",
) -> Sides:
    """Compare with open_clip's preprocessing and `encode_image`, crop by crop, with the same random weights."""
    torch.manual_seed(0)
    clip = create_clip(model).to(device)
    torch.manual_seed(0)
    teacher = RegionTeacher(model, dtype=dtype, device=device)
    preprocess = open_clip.image_transform(teacher.side, is_train=False)
    random = np.random.default_rng(0)
    images = [(random_image(random, size), random_boxes(random, size, num_boxes)) for _ in range(num_images)]

    @torch.inference_mode()
    def peer() -> Tensor:
        rows = []
        for image, boxes in images:
            for windows in crop_windows(boxes, size, SCALES).tolist():
                crops = (preprocess(Image.fromarray(image).crop(window)) for window in windows)
                rows.append(F.normalize(sum(clip.encode_image(crop[None].to(device))[0] for crop in crops), dim=-1))
        return torch.stack(rows)  # (N, D)

    return Sides(peer, lambda: torch.cat(teacher(images)), relative_error)


def random_image(random: np.random.Generator, size: Size) -> np.ndarray:
    """Return (H, W, 3) uint8 of smooth noise: white noise would vanish in a resize."""
    corner = random.integers(0, 256, (size[0] // 32, size[1] // 32, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(corner).resize(size[::-1], Image.Resampling.BILINEAR))


def random_boxes(random: np.random.Generator, size: Size, count: int) -> Tensor:
    """Return boxes (N, 4) with sides between a sixteenth and a half of the image's."""
    limit = np.array(size[::-1], np.float64)
    sides = random.uniform(1 / 16, 1 / 2, (count, 2)) * limit
    starts = random.uniform(0, 1, (count, 2)) * (limit - sides)
    return torch.from_numpy(np.concatenate([starts, starts + sides], axis=1)).float()


_NOTE = "128 crops of 64 boxes on two 640x480 images, ViT-B/32; the goal is three times the crops per second"
ROWS = (
    Row(
        "region_cache",
        1.0,
        partial(prepare, "bfloat16"),
        products="bfloat16",
        min_peak_fraction=0.8,
        repeats=3,
        note=_NOTE,
        on_cuda=True,
    ),
    Row(
        "region_cache_fp32",
        1.0,
        partial(prepare, "float32"),
        products="float32",
        min_peak_fraction=0.8,
        repeats=3,
        note=_NOTE,
        on_cuda=True,
    ),
)
