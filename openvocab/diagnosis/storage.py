"""The working folder, the caches of weights, and the hub that they come from."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from openvocab.diagnosis.facts import Fact
from openvocab.files.user_cache import cache_folder

ENOUGH = 3e9
"""Free bytes that suffice for any published model, as it is published and converted."""


def storage_facts() -> Iterator[Fact]:
    """Yield whether the working folder and the caches can be written, their free space, and the size of the caches."""
    yield _folder_fact("working folder", Path.cwd(), "cd to a folder on another disk", has_size=False)
    yield _folder_fact("cache", cache_folder(), "export OPENVOCAB_CACHE=FOLDER, on another disk")
    from huggingface_hub import constants

    yield _folder_fact("hub's cache", Path(constants.HF_HUB_CACHE), "export HF_HUB_CACHE=FOLDER, on another disk")


def hub_facts() -> Iterator[Fact]:
    """Yield whether weights can be fetched."""
    from huggingface_hub import constants

    from openvocab.checkpoint.hub import can_reach_hub

    if constants.HF_HUB_OFFLINE:
        yield Fact("hub", f"{constants.ENDPOINT} is not asked, since HF_HUB_OFFLINE is set")
    elif can_reach_hub():
        yield Fact("hub", f"{constants.ENDPOINT} answers")
    else:
        advice = (
            "export HTTPS_PROXY=ADDRESS (a proxy), HF_ENDPOINT=ADDRESS (a mirror), or HF_HUB_OFFLINE=1 (no network)"
        )
        yield Fact("hub", f"{constants.ENDPOINT} cannot be reached: weights cannot be fetched", advice)


def _folder_fact(name: str, folder: Path, advice: str, has_size: bool = True) -> Fact:
    """Return the free space at a folder, which need not exist yet; a fault if it is small or cannot be written."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    size = f"{_size(folder) / 1e9:.1f} GB in it, " if has_size and folder.is_dir() else ""
    value = f"{folder} ({size}{free / 1e9:.1f} GB free)"
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Fact(name, f"{value}: cannot be written", advice)
    if free < ENOUGH:
        return Fact(name, f"{value}: less than {ENOUGH / 1e9:.0f} GB", advice)
    return Fact(name, value)


def _size(folder: Path) -> int:
    """Return the bytes of all files in a folder; the links of the hub's cache do not count."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            total += 0 if os.path.islink(path) or not os.path.exists(path) else os.path.getsize(path)
    return total
