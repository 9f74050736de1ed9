"""A fixed list of classes instead of text embeddings, which turns a head into an ordinary classifier."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.registry import TEXT_ENCODERS
from openvocab.structures import TextFeatures
from openvocab.text.base import TextEncoder
from openvocab.vocabulary.class_lists import class_names_path
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names, same_name_key

MAX_LISTED = 8
"""Names that an error message lists."""


@TEXT_ENCODERS.register_module()
class OneHotTextEncoder(TextEncoder):
    """One-hot class embeddings, so that output k of a head is the logit of class k of a fixed list.

    It encodes no text and has no weights. With `LinearHead`, the model is the usual classifier with one output per
    class, and this list alone determines the number of outputs. A vocabulary selects classes by name, in any order and
    not necessarily all; names outside the list are rejected.

    Args:
        classes: a list of names, the name of a class list of the package (`imagenet_1k`), or a names file.

    Raises:
        ValueError: the list does not exist, is empty, or has a name twice.
    """

    scale: Tensor

    def __init__(self, classes: str | Path | Sequence[str]) -> None:
        super().__init__()
        entries = read_class_names(class_names_path(classes)) if isinstance(classes, (str, Path)) else list(classes)
        self.vocabulary = Vocabulary.from_names(entries)
        self.embed_dim = len(self.vocabulary)
        self._axis = {
            same_name_key(name): axis for axis, names in enumerate(self.vocabulary.synonyms) for name in names
        }
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def forward(self, texts: Vocabulary | Sequence[str]) -> TextFeatures:
        """Return one unit vector per class of the vocabulary, (K, D), where D is the length of the list.

        Raises:
            ValueError: a class is not in the list (the message names the first few), two classes are the same entry,
                or the texts are raw captions.
        """
        if not isinstance(texts, Vocabulary):
            raise ValueError("a fixed list of classes cannot encode captions; use CLIPTextEncoder")
        axes = [self._find(names) for names in texts.synonyms]
        missing = [names[0] for names, axis in zip(texts.synonyms, axes) if axis is None]
        if missing:
            listed = ", ".join(map(repr, missing[:MAX_LISTED])) + (", ..." if len(missing) > MAX_LISTED else "")
            raise ValueError(
                f"the model has {self.embed_dim} fixed classes, and {len(missing)} of the {len(texts)} in the "
                f"vocabulary are not among them: {listed}; give OneHotTextEncoder the classes of the data"
            )
        if len(set(axes)) < len(axes):
            raise ValueError(f"two classes of {texts.class_names[:MAX_LISTED]} match the same fixed class")
        index = torch.tensor(axes, device=self.scale.device)
        rows = F.one_hot(index, self.embed_dim).to(self.scale.dtype)  # (K, D)
        return TextFeatures(rows, self.scale, background=texts.background)

    def knows(self, synonyms: Sequence[str]) -> bool:
        """Return whether one of these names is in the list."""
        return self._find(synonyms) is not None

    def _find(self, synonyms: Sequence[str]) -> int | None:
        axes = (self._axis.get(same_name_key(name)) for name in synonyms)
        return next((axis for axis in axes if axis is not None), None)
