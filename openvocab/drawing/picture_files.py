"""Pictures on disk: under the names of samples, which come from files of others, and whole or not at all."""

from pathlib import Path

import numpy as np
from PIL import Image

from openvocab.files.atomic_files import replacing


def picture_path(folder: Path, sample_id: str) -> Path:
    """Return `<folder>/<sample id>.png`; always below the folder, though an id may be `../../x` or `/etc/x`."""
    parts = [part for part in sample_id.replace("\0", "_").split("/") if part not in ("", ".")]
    return folder.joinpath(
        *("_" if part == ".." else part for part in parts[:-1]), f"{parts[-1] if parts else '_'}.png"
    )


def write_picture(picture: np.ndarray, path: Path) -> None:
    """Write a picture (H, W, 3) uint8 RGB in the format of the path's extension, and the folder for it.

    Raises:
        KeyError: an extension that is no picture's.
        OSError: it cannot be written, or its name is too long.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        Image.fromarray(picture).save(file, Image.registered_extensions()[path.suffix.lower()])
