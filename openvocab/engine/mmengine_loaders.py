"""Route mmengine's ways to load a file through our reader of tensors and plain types."""

import os
from typing import Any

from mmengine.runner import CheckpointLoader

from openvocab.checkpoint.checkpoint import load_checkpoint

_SCHEMES = ["http://", "https://", "pavi://", r"(\S+\:)?s3://", r"(\S+\:)?petrel://"]
_SCHEMES += ["modelzoo://", "torchvision://", "open-mmlab://", "openmmlab://", "mmcls://", "local://"]


def guard_mmengine_loaders() -> None:
    """Restrict mmengine's loaders, for the rest of this process, to local files that cannot run code.

    Our runner calls none of them; a user's hook or model may.
    """
    CheckpointLoader.register_scheme(prefixes=["", *_SCHEMES], loader=_load, force=True)


def _load(filename: str, map_location: Any = None) -> dict[str, Any]:
    if "://" in filename:
        raise ValueError(f"{filename}: URLs are not loaded; download the file and give its path")
    return load_checkpoint(os.path.expanduser(filename), map_location or "cpu")
