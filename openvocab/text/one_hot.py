"""A fixed list of classes in place of texts: what makes a head over text rows an ordinary classifier."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from openvocab.registry import TEXT_ENCODERS
from openvocab.structures import TextFeatures
from openvocab.text.base import TextEncoder
from openvocab.vocabulary.class_lists import class_names_path
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names, same_name_key

SHOWN = 8


@TEXT_ENCODERS.register_module()
class OneHotTextEncoder(TextEncoder):
    """Every class of a fixed list is an axis of its own, so that a head's output number k is the logit of class k.

    It reads no text and has no weights. With `LinearHead` the model is the usual classifier with as many outputs as
    classes, and this list is the one place that says how many. A vocabulary asks for its classes by name, in any order
    and not necessarily all; what is not in the list cannot be known to such a model.

    Args:
        classes: a list of names, the name of a class list of the package (`imagenet_1k`), or a names file.

    Raises:
        ValueError: no such list, an empty one, or a name given twice.
    """

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
        """Return one unit vector (K, D) a class of the vocabulary, D the length of the list.

        Raises:
            ValueError: a class that is not in the list (the message names the first), two that are the same entry of
                it, or raw captions.
        """
        if not isinstance(texts, Vocabulary):
            raise ValueError("a fixed list of classes cannot encode captions; use CLIPTextEncoder")
        axes = [self._find(names) for names in texts.synonyms]
        missing = [names[0] for names, axis in zip(texts.synonyms, axes) if axis is None]
        if missing:
            shown = ", ".join(map(repr, missing[:SHOWN])) + (", ..." if len(missing) > SHOWN else "")
            raise ValueError(
                f"the model has {self.embed_dim} fixed classes, and {len(missing)} of the {len(texts)} in the "
                f"vocabulary are not among them: {shown}; give OneHotTextEncoder the classes of the data"
            )
        if len(set(axes)) < len(axes):
            raise ValueError(f"two classes of the vocabulary {texts.class_names[:SHOWN]} are one of the fixed classes")
        index = torch.tensor(axes, device=self.scale.device)
        rows = F.one_hot(index, self.embed_dim).to(self.scale.dtype)
        return TextFeatures(rows, self.scale, background=texts.background)

    def knows(self, synonyms: Sequence[str]) -> bool:
        """Say whether one of these names is in the list."""
        return self._find(synonyms) is not None

    def _find(self, synonyms: Sequence[str]) -> int | None:
        found = (self._axis.get(same_name_key(name)) for name in synonyms)
        return next((axis for axis in found if axis is not None), None)
