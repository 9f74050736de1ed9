"""Write a picture of every prediction of a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from openvocab.datasets.image_io import read_image
from openvocab.registry import HOOKS
from openvocab.structures import Prediction, SemanticPrediction
from openvocab.visualization import draw_label_map


@HOOKS.register_module()
class PictureHook(Hook):
    """Lay each predicted label map over its image and write `<sample id>.png`.

    Args:
        folder: where to; made if it does not exist.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict[str, Any], outputs: Sequence[Prediction]
    ) -> None:
        """Draw one batch.

        Raises:
            ValueError: a prediction that is not a label map.
        """
        for sample, prediction in zip(data_batch["sample"], outputs, strict=True):
            if not isinstance(prediction, SemanticPrediction):
                raise ValueError(f"pictures show label maps; this model gives {type(prediction).__name__}")
            path = self.folder / f"{sample.sample_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw_label_map(read_image(sample.image_path), prediction)).save(path)
