"""From an image to network outputs; each strategy is imported when its name is used."""

from openvocab.lazy_names import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".multi_scale": ["MultiScaleFlip"],
        ".sliding_window": ["SlidingWindow"],
        ".unpadded_whole": ["UnpaddedWholeImage"],
        ".unpadded_window": ["UnpaddedSlidingWindow"],
        ".whole_image": ["WholeImage"],
    },
)
