"""Pictures on disk, named after samples: ids that come from other people's files cannot leave the folder."""

from pathlib import Path

import numpy as np
from PIL import Image

from openvocab.files.atomic_files import replacing


def picture_path(folder: Path, sample_id: str) -> Path:
    """Return `<folder>/<sample id>.png`, which is below the folder even for ids such as `../../x` or `/etc/x`."""
    parts = [part for part in sample_id.replace("\0", "_").split("/") if part not in ("", ".")]
    return folder.joinpath(
        *("_" if part == ".." else part for part in parts[:-1]), f"{parts[-1] if parts else '_'}.png"
    )


def write_picture(picture: np.ndarray, path: Path) -> None:
    """Write a picture (H, W, 3) uint8 RGB, whole or not at all, in the format of its extension; create its folder.

    Raises:
        KeyError: an extension of no image format.
        OSError: the file cannot be written, or its name is too long.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        Image.fromarray(picture).save(file, Image.registered_extensions()[path.suffix.lower()])
