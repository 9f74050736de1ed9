"""The folder of what this package keeps on a machine."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of what this package keeps: $OPENVOCAB_CACHE, or openvocab in the user's cache folder."""
    if folder := os.environ.get("OPENVOCAB_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openvocab"
