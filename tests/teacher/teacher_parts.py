"""Pictures and a dataset for the tests of regions."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from openvocab.datasets.base import PipelineDataset
from openvocab.datasets.transforms import LoadImage

MODEL = "ViT-Ti-8-shapes"
SIZES = [(40, 60), (64, 64), (30, 80), (50, 50), (40, 60), (33, 47), (64, 48)]


class Pictures(PipelineDataset):
    """Images of a folder by their names."""

    def __init__(self, folder: Path, pipeline: Any = (), **options: Any) -> None:
        super().__init__(pipeline or [LoadImage()], **options)
        self.folder = folder

    def load_index(self) -> list[dict[str, Any]]:
        """List the images."""
        return [{"sample_id": path.stem, "img_path": str(path)} for path in sorted(self.folder.glob("*.png"))]


def write_pictures(folder: Path) -> Path:
    """Write an image of each of `SIZES`, named 0.png and so on."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number, (height, width) in enumerate(SIZES):
        coarse = random.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(coarse, (width, height)))
    return folder
