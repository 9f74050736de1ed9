"""A trained model as a function of images and of lists of class names."""

from typing import TYPE_CHECKING

from openvocab.lazy_names import lazy_names

if TYPE_CHECKING:
    from openvocab.predictor.arguments import as_list, as_vocabulary
    from openvocab.predictor.encoded_image import EncodedImage
    from openvocab.predictor.loading import load
    from openvocab.predictor.pipeline import image_steps
    from openvocab.predictor.predictor import Predictor

__all__ = ["EncodedImage", "Predictor", "as_list", "as_vocabulary", "image_steps", "load"]

_, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".arguments": ["as_list", "as_vocabulary"],
        ".encoded_image": ["EncodedImage"],
        ".loading": ["load"],
        ".pipeline": ["image_steps"],
        ".predictor": ["Predictor"],
    },
)
