"""What a user gives to a predictor: one image or several, and names."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from openvocab.datasets.files.folder_walk import IMAGE_EXTENSIONS, list_images
from openvocab.images.image_input import is_path
from openvocab.structures import Sample
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary

Classes = str | Sequence[str | Sequence[str]] | Vocabulary
"""`"cat, sofa | couch, floor"`, a list of names or of lists of synonyms, or a vocabulary."""


def is_several(images: Any) -> bool:
    """Return whether an argument stands for several images: a list, a tuple, an iterator or the path of a folder."""
    is_open_file = hasattr(images, "read")  # an iterator, too: over its lines
    is_folder = is_path(images) and os.path.isdir(images)
    return is_folder or isinstance(images, (list, tuple)) or (isinstance(images, Iterator) and not is_open_file)


def as_list(images: Any) -> Iterable[Any]:
    """Return several images unchanged, the images of a folder as a list, and one image in a list.

    Raises:
        FileNotFoundError: a folder without images.
    """
    if not is_several(images):
        return [images]
    if not is_path(images):
        return images
    paths = list_images(Path(images))
    if not paths:
        raise FileNotFoundError(f"{images}: no image in this folder (looked for {', '.join(sorted(IMAGE_EXTENSIONS))})")
    return paths


def as_vocabulary(classes: Classes, background: str | None = None) -> Vocabulary:
    """Build a vocabulary from what a user types.

    Args:
        classes: the names.
        background: the name that means "everything else", among `classes`; default: that of a vocabulary, else none.

    Raises:
        TypeError: `classes` is neither a string, a list nor a vocabulary.
        ValueError: see `Vocabulary`; the message states the index of the name.
    """
    if isinstance(classes, str):
        classes = Vocabulary.from_text(classes)
    elif isinstance(classes, (list, tuple)):
        classes = Vocabulary.from_names(classes)
    if not isinstance(classes, Vocabulary):
        raise TypeError(f'classes: expected "cat, sofa", a list of names or a Vocabulary, got {type(classes).__name__}')
    return classes if background is None else classes.with_background(background)


def asked(sample: Sample, texts: Vocabulary | Prompt | None) -> Sample:
    """Return a sample whose image is compared with the names of a vocabulary, or with the phrases of a caption."""
    if isinstance(texts, Prompt):
        return replace(sample, vocabulary=texts.vocabulary, prompt=texts)
    return replace(sample, vocabulary=texts, prompt=None)
