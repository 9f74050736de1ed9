"""What a result file says of the data that a number was measured on."""

from collections.abc import Mapping
from typing import Any

from openvocab.text.vocabulary import Vocabulary


def class_protocol(dataset_meta: Mapping[str, Any] | None, vocabulary: Vocabulary, images: int) -> dict[str, Any]:
    """Return the data set's name, the number of images and the class list, for a metric over a vocabulary."""
    return {
        "dataset": (dataset_meta or {}).get("dataset"),
        "images": images,
        "classes": len(vocabulary),
        "class_list_sha256": vocabulary.digest,
        "unseen_classes": None if vocabulary.seen is None else vocabulary.seen.count(False),
    }
