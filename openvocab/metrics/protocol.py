"""What a result file says of the data that a number was measured on."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from openvocab.vocabulary.vocabulary import Vocabulary, some_names

logger = logging.getLogger(__name__)


def class_protocol(dataset_meta: Mapping[str, Any] | None, vocabulary: Vocabulary, images: int) -> dict[str, Any]:
    """Return the dataset's name, the number of images and the class list, for a metric over a vocabulary."""
    return {
        "dataset": (dataset_meta or {}).get("dataset"),
        "images": images,
        "classes": len(vocabulary),
        "class_list_sha256": vocabulary.digest,
        "unseen_classes": None if vocabulary.seen is None else vocabulary.seen.count(False),
    }


def note_absent(metric: str, label: str, class_names: Sequence[str], counts: Sequence[int]) -> list[str]:
    """Warn of classes that the evaluated data never label, and return their names for the protocol.

    Args:
        metric: its name, for the message.
        label: what is counted, in the singular, for the message.
        class_names: K of them.
        counts: (K,) how many labels each class has.
    """
    absent = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if absent:
        logger.warning(
            f"{metric}: {len(absent)} of {len(class_names)} classes have no {label} in the evaluated data, so that it "
            f"does not say whether they are found: {some_names(absent)}"
        )
    return absent
