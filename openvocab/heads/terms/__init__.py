"""The losses that a `ContrastiveHead` is made up of, each imported when its name is used."""

from openvocab.lazy_names import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".base": ["ContrastiveTerm", "PairBatch"],
        ".captions": [
            "CaptionContrast",
            "NeighbourContrast",
            "SigmoidContrast",
            "SimilarityRegularisation",
            "TwoProjectionContrast",
        ],
        ".nouns": ["NounContrast"],
        ".tokens": ["MaskedLanguage", "TokenContrast"],
        ".views": ["PatchContrast", "SimSiam", "ViewContrast"],
    },
)
