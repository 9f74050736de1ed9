"""Survey a few label maps before a long training: classes of the class list without a pixel are suspicious."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openvocab.datasets.files.label_table import NUM_IDS, LabelTable
from openvocab.images.image_io import BadSample
from openvocab.vocabulary.vocabulary import some_names

MAX_MAPS = 50
MAX_PIXELS = 50_000_000


@dataclass(frozen=True)
class Survey:
    """How often each id occurs in some label maps."""

    pixels: np.ndarray
    """(65536,) int64 pixels of each id."""
    num_maps: int
    """Number of label maps that were read."""


def count_ids(paths: Sequence[Path], read_ids: Callable[[Path], np.ndarray]) -> Survey:
    """Count the pixels of each id in a fixed random choice of label maps, up to `MAX_MAPS` maps or `MAX_PIXELS` pixels.

    Args:
        paths: paths of all label maps.
        read_ids: returns the ids of one, (H, W) uint8 or uint16. A map that cannot be read is skipped here, since the
            dataset reports it when it is loaded.
    """
    pixels, num_maps = np.zeros(NUM_IDS, np.int64), 0
    for path in random.Random(0).sample(paths, min(MAX_MAPS, len(paths))):
        try:
            ids = read_ids(path)
        except BadSample:
            continue
        pixels += np.bincount(ids.ravel(), minlength=NUM_IDS)
        num_maps += 1
        if pixels.sum() >= MAX_PIXELS:
            break
    return Survey(pixels, num_maps)


def describe_survey(survey: Survey, table: LabelTable, class_names: Sequence[str], total: int) -> tuple[bool, str]:
    """Describe which classes have no pixel in a survey.

    Args:
        survey: survey of some label maps.
        table: table from ids to classes.
        class_names: K names.
        total: number of all label maps.

    Returns:
        Whether that is suspicious, because all maps were read, or at least as many as there are classes; and the text
        for the log, "" if all classes occur.
    """
    ids = np.flatnonzero(survey.pixels)
    classes = table.classes_of(ids)
    absent = [class_names[index] for index in np.setdiff1d(np.arange(len(class_names)), classes)]
    if not absent or not survey.num_maps:
        return False, ""
    maps = f"the {total} label maps" if survey.num_maps == total else f"{survey.num_maps} label maps read as a sample"
    text = f"; {len(absent)} of the classes have no pixel in {maps}: {some_names(absent)}"
    ignored = ids[classes < 0]
    if ignored.size:
        percentage = 100 * survey.pixels[ignored].sum() / survey.pixels.sum()
        text += f"; {percentage:.0f} % of the pixels are unlabeled, id {some_names([str(raw) for raw in ignored])}"
    return survey.num_maps == total or survey.num_maps >= len(class_names), text
