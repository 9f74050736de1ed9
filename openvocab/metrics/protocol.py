"""Descriptions of the evaluated data, for result files."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openvocab.vocabulary.vocabulary import Vocabulary, some_names

logger = logging.getLogger(__name__)


def class_protocol(dataset_meta: Mapping[str, Any] | None, vocabulary: Vocabulary, images: int) -> dict[str, Any]:
    """Return the name of the dataset, the number of images and properties of the vocabulary."""
    return {
        "dataset": (dataset_meta or {}).get("dataset"),
        "images": images,
        "classes": len(vocabulary),
        "class_list_sha256": vocabulary.digest,
        "unseen_classes": None if vocabulary.seen is None else vocabulary.seen.count(False),
    }


def note_absent(metric: str, label: str, class_names: Sequence[str], counts: Sequence[int] | np.ndarray) -> list[str]:
    """Warn about classes without labels in the evaluated data, and return their names for the protocol.

    Args:
        metric: its name, for the message.
        label: what is counted, in the singular, for the message.
        class_names: K names.
        counts: (K,) number of labels of each class.
    """
    absent = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if absent:
        logger.warning(
            f"{metric}: {len(absent)} of {len(class_names)} classes have no {label} in the evaluated data, so that it "
            f"does not say whether they are found: {some_names(absent)}"
        )
    return absent
