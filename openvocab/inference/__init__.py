"""From an image to network outputs; importing this package registers the strategies."""

from openvocab.inference.multi_scale import MultiScaleFlip
from openvocab.inference.sliding_window import SlidingWindow
from openvocab.inference.unpadded_window import UnpaddedSlidingWindow
from openvocab.inference.whole_image import WholeImage

__all__ = ["MultiScaleFlip", "SlidingWindow", "UnpaddedSlidingWindow", "WholeImage"]
