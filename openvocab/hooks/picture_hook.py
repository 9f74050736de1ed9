"""Write pictures of the predictions of a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from openvocab.datasets.image_io import read_image
from openvocab.registry import HOOKS
from openvocab.structures import Prediction, Sample, SemanticPrediction
from openvocab.visualization import draw_comparison, draw_label_map


@HOOKS.register_module()
class PictureHook(Hook):
    """Draw each prediction beside its ground truth (or over its image, where there is none) as `<sample id>.png`.

    Args:
        folder: where to; made if it does not exist.
        count: how many pictures at the most, the first ones; None draws all.
    """

    def __init__(self, folder: str | Path, count: int | None = None) -> None:
        self.folder = Path(folder)
        self.count = count
        self._drawn = 0

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict[str, Any], outputs: Sequence[Prediction]
    ) -> None:
        """Draw one batch.

        Raises:
            ValueError: a prediction that is not a label map.
        """
        for sample, prediction in zip(data_batch["sample"], outputs, strict=True):
            if self.count is not None and self._drawn >= self.count:
                return
            if not isinstance(prediction, SemanticPrediction):
                raise ValueError(f"pictures show label maps; this model gives {type(prediction).__name__}")
            path = self.folder / f"{sample.sample_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(_draw(sample, prediction)).save(path)
            self._drawn += 1


def _draw(sample: Sample, prediction: SemanticPrediction) -> np.ndarray:
    image = read_image(sample.image_path)
    if sample.label_map is None:
        return draw_label_map(image, prediction)
    return draw_comparison(image, prediction, sample.label_map.numpy())
