"""The contract of a text encoder."""

from collections.abc import Sequence

from torch import nn

from openvocab.structures import TextFeatures
from openvocab.text.vocabulary import Vocabulary


class TextEncoder(nn.Module):
    """A vocabulary, or raw texts, in; `TextFeatures` out. Subclasses set `embed_dim`."""

    embed_dim: int
    """D of the joint space."""

    def forward(self, texts: Vocabulary | Sequence[str]) -> TextFeatures:
        """Encode class names (with templates and synonyms, cached while frozen) or raw captions (as they are)."""
        raise NotImplementedError

    def knows(self, synonyms: Sequence[str]) -> bool:
        """Say whether a class of these names can be encoded; only a table of texts knows some and not others."""
        return True
