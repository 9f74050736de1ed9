"""The losses that a `ContrastiveHead` is put together of; importing this package registers them."""

from openvocab.heads.terms.base import ContrastiveTerm, PairBatch
from openvocab.heads.terms.captions import (
    CaptionContrast,
    NeighbourContrast,
    SigmoidContrast,
    SimilarityRegularisation,
    TwoProjectionContrast,
)
from openvocab.heads.terms.nouns import NounContrast
from openvocab.heads.terms.tokens import MaskedLanguage, TokenContrast
from openvocab.heads.terms.views import PatchContrast, SimSiam, ViewContrast

__all__ = [
    "CaptionContrast",
    "ContrastiveTerm",
    "MaskedLanguage",
    "NeighbourContrast",
    "NounContrast",
    "PairBatch",
    "PatchContrast",
    "SigmoidContrast",
    "SimSiam",
    "SimilarityRegularisation",
    "TokenContrast",
    "TwoProjectionContrast",
    "ViewContrast",
]
