"""Draw the predictions of a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from openvocab.drawing.picture_files import picture_path, write_picture
from openvocab.drawing.sample_picture import draw_prediction
from openvocab.images.image_io import read_image
from openvocab.registry import HOOKS
from openvocab.structures import Prediction


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
        """Draw the predictions of one batch."""
        for sample, prediction in zip(data_batch["sample"], outputs, strict=True):
            if self.count is not None and self._num_drawn >= self.count:
                return
            # without a limit: the dataset has read the image already, within its own
            image = read_image(sample.image_path, max_pixels=None)
            picture = draw_prediction(image, sample, prediction)
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
