"""The names that a user types after a command: a text, or a file of them."""

import os
from pathlib import Path

from openvocab.predictor.arguments import as_vocabulary
from openvocab.vocabulary.vocabulary import FILE_ENDINGS, Vocabulary, read_class_names


def read_names(classes: str, background: str | None = None, option: str = "--classes") -> Vocabulary:
    """Return the vocabulary of what a user typed.

    Args:
        classes: "cat, sofa | couch, other", or the path of a .txt file, one class per line.
        background: the name that means "everything else".
        option: the argument that is read, for messages.

    Raises:
        ValueError: it is another file, `Vocabulary.from_text` rejects the names, or the background is not among them.
        FileNotFoundError: it looks like a file that does not exist.
    """
    path = Path(classes)
    if os.path.isfile(path):
        if path.suffix.lower() != ".txt":
            raise ValueError(f"{option}: {classes} is a file; names are read from .txt files, one class per line")
        return as_vocabulary(read_class_names(path), background)
    if path.suffix.lower() in FILE_ENDINGS and "," not in classes:
        raise FileNotFoundError(f"{option}: {classes} looks like a file, but it does not exist")
    return as_vocabulary(classes, background)
