"""What a few label maps tell of a class list, before hours are spent on it: classes that none of them shows."""

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
    """The ids in some label maps."""

    pixels: np.ndarray
    """(65536,) int64 of each id."""
    num_maps: int
    """How many were read."""


def count_ids(paths: Sequence[Path], read: Callable[[Path], np.ndarray]) -> Survey:
    """Count the pixels of each id in some label maps, always the same ones.

    They are `MAX_MAPS`, or fewer where those have `MAX_PIXELS`.

    Args:
        paths: of all label maps.
        read: returns the ids of one, (H, W) uint8 or uint16. One that cannot be read is passed over here: it is named
            when its turn comes.
    """
    pixels, num_maps = np.zeros(NUM_IDS, np.int64), 0
    for path in random.Random(0).sample(paths, min(MAX_MAPS, len(paths))):
        try:
            ids = read(path)
        except BadSample:
            continue
        pixels += np.bincount(ids.ravel(), minlength=NUM_IDS)
        num_maps += 1
        if pixels.sum() >= MAX_PIXELS:
            break
    return Survey(pixels, num_maps)


def describe_survey(survey: Survey, table: LabelTable, class_names: Sequence[str], total: int) -> tuple[bool, str]:
    """Say which classes have no pixel in a survey.

    Args:
        table: from ids to classes.
        class_names: K of them.
        total: number of all label maps.

    Returns:
        whether that is suspicious, since all maps were read, or as many as there are classes; and the words for the
        log, "" where all classes occur.
    """
    met = np.flatnonzero(survey.pixels)
    classes = table.classes_of(met)
    absent = [class_names[index] for index in np.setdiff1d(np.arange(len(class_names)), classes)]
    if not absent or not survey.num_maps:
        return False, ""
    read = f"the {total} label maps" if survey.num_maps == total else f"{survey.num_maps} label maps read as a sample"
    words = f"; {len(absent)} of the classes have no pixel in {read}: {some_names(absent)}"
    ignored = met[classes < 0]
    if ignored.size:
        share = 100 * survey.pixels[ignored].sum() / survey.pixels.sum()
        words += f"; {share:.0f} % of the pixels are unlabeled, id {some_names([str(raw) for raw in ignored])}"
    return survey.num_maps == total or survey.num_maps >= len(class_names), words
