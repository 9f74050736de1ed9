"""Draw the predictions of a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from openvocab.drawing.box_drawing import draw_detection_comparison, draw_detections
from openvocab.drawing.picture_files import picture_path, write_picture
from openvocab.drawing.visualization import draw_comparison, draw_label_map
from openvocab.images.image_io import read_image
from openvocab.registry import HOOKS
from openvocab.structures import DetectionPrediction, Prediction, Sample, SemanticPrediction


@HOOKS.register_module()
class PictureHook(Hook):
    """Draw each prediction next to its ground truth, or over its image without ground truth, as `<sample id>.png`.

    A sample id that leads out of the folder is changed to one that does not.

    Args:
        folder: folder of the pictures; created if it does not exist.
        count: largest number of pictures, the first ones; default: all.
    """

    def __init__(self, folder: str | Path, count: int | None = None) -> None:
        self.folder = Path(folder)
        self.count = count
        self._num_drawn = 0
        self._num_failed = 0

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict[str, Any], outputs: Sequence[Prediction]
    ) -> None:
        """Draw the predictions of one batch.

        Raises:
            ValueError: a prediction is neither a label map nor detected objects.
        """
        for sample, prediction in zip(data_batch["sample"], outputs, strict=True):
            if self.count is not None and self._num_drawn >= self.count:
                return
            picture = _draw(sample, prediction)
            self._write(runner, picture, picture_path(self.folder, sample.sample_id))
            self._num_drawn += 1

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Report how many pictures could not be written."""
        if self._num_failed:
            runner.logger.warning(
                f"{self._num_failed} of {self._num_drawn} pictures could not be written to {self.folder}"
            )

    def _write(self, runner: Runner, picture: np.ndarray, path: Path) -> None:
        try:
            write_picture(picture, path)
        except OSError as error:  # the scores matter more than the pictures
            if not self._num_failed:
                runner.logger.warning(f"cannot write {path} ({error}): the test continues without such pictures")
            self._num_failed += 1


def _draw(sample: Sample, prediction: Prediction) -> np.ndarray:
    image = read_image(sample.image_path, max_pixels=None)  # no limit: the dataset has read it already, within its own
    if isinstance(prediction, DetectionPrediction):
        if sample.instances is None:
            return draw_detections(image, prediction)
        return draw_detection_comparison(image, prediction, sample.instances)
    if not isinstance(prediction, SemanticPrediction):
        raise ValueError(f"pictures show label maps or objects; this model returns a {type(prediction).__name__}")
    if sample.label_map is None:
        return draw_label_map(image, prediction)
    return draw_comparison(image, prediction, sample.label_map.numpy())
