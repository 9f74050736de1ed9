"""Pictures of GroupViT's groups: which pixels each grouping block merges."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from openvocab.drawing.legend import side_by_side, text_size, with_title
from openvocab.drawing.visualization import draw_label_map
from openvocab.heads.groupvit import GroupViTHead
from openvocab.postprocess import label_map_from_logits
from openvocab.predictor import Predictor
from openvocab.structures import SemanticPrediction
from openvocab.vocabulary.vocabulary import Vocabulary


@torch.inference_mode()
def find_groups(predictor: Predictor, image: Any) -> list[np.ndarray]:
    """Return the group of every pixel after each grouping block, computed on the whole image, without windows.

    Args:
        predictor: its model has a `GroupViTHead`.
        image: anything that `rgb_image` takes.

    Returns:
        (H, W) uint8 for each block, original frame; values are below the number of groups of that block.

    Raises:
        TypeError: a model with another head, or something that is not an image.
    """
    model = predictor.model
    if not isinstance(model.head, GroupViTHead):
        raise TypeError(f"groups are GroupViT's; this model has a {type(model.head).__name__}")
    tensor, sample = predictor.prepare(image)
    batch = model.data_preprocessor({"image": [tensor], "sample": [sample]})
    images, padded_size = batch["images"], batch["samples"][0].padded_size
    maps = model.head.group_maps(model.encode(images))
    sizes = dict(input_size=sample.input_size, padded_size=padded_size)
    return [label_map_from_logits(stage[0], sample.original_size, **sizes).cpu().numpy() for stage in maps]


def draw_groups(image: np.ndarray, group_maps: Sequence[np.ndarray], *, alpha: float = 0.55) -> np.ndarray:
    """Draw a photo and, next to it, the groups of each grouping block as colored and numbered overlays.

    Args:
        image: (H, W, 3) uint8 RGB.
        group_maps: (H, W) of each block, from `find_groups`.
        alpha: opacity of the colors, 0..1.

    Returns:
        (H', W', 3) uint8 RGB; tiny images are enlarged.

    Raises:
        ValueError: sizes differ, or `alpha` lies outside 0..1.
    """
    unlabeled = SemanticPrediction(np.full(image.shape[:2], 255, np.uint8), Vocabulary.from_names(["no group"]))
    photo = draw_label_map(image, unlabeled, legend=False)
    text = text_size(photo.shape)
    pictures = [with_title(photo, "photo", text)]
    for stage, groups in enumerate(group_maps, start=1):
        names = Vocabulary.from_names([f"group {index + 1}" for index in range(int(groups.max()) + 1)])
        overlay = draw_label_map(image, SemanticPrediction(groups, names), alpha=alpha, legend=False)
        pictures.append(with_title(overlay, f"stage {stage}: {len(np.unique(groups))} groups", text))
    return side_by_side(pictures)
