"""The network sees a square, black at the right and the bottom, whichever form the batch has."""

import pytest
import torch

from openvocab.inference.square_image import SquareImage
from openvocab.preprocessor import BatchPreprocessor
from openvocab.structures import Sample


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (48, 48), (20, 47)])
def test_the_image_is_padded_with_black_to_its_longer_side(size):
    preprocessor = BatchPreprocessor((100, 110, 120), (50, 60, 70), stride=16)
    image = torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(0)).byte()
    data = {"image": [image], "sample": [Sample("a", None, size, size)]}
    seen = [
        SquareImage()(lambda images: images, batch["images"], batch["samples"], preprocessor.shift)
        for batch in (preprocessor(data), preprocessor.pixels(data))
    ]
    square = torch.zeros(3, 48, 48)
    square[:, : size[0], : size[1]] = image
    expected = square[None] * preprocessor.scale + preprocessor.shift
    for images in seen:
        torch.testing.assert_close(images, expected, atol=1e-5, rtol=1e-5)
