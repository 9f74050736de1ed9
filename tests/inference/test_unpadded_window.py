"""Windows without the batch's padding, against a plain loop."""

import pytest
import torch
from torch import Tensor

from openvocab.inference import UnpaddedSlidingWindow
from openvocab.structures import Sample

BLACK = torch.zeros(1, 3, 1, 1)


def network(images: Tensor) -> Tensor:
    """One output a pixel that depends on the whole window."""
    return images[:, :2] + images.mean((1, 2, 3), keepdim=True)


def sample(size: tuple[int, int]) -> Sample:
    return Sample("one", None, size, size)


def test_the_last_window_ends_at_the_last_pixel_of_the_image():
    images = torch.randn(1, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    logits = UnpaddedSlidingWindow(16, 8)(network, images, [sample((16, 27))], BLACK)
    total, counts = torch.zeros(1, 2, 16, 27), torch.zeros(27)
    for x in (0, 8, 11):
        total[..., x : x + 16] += network(images[..., x : x + 16])
        counts[x : x + 16] += 1
    assert logits.shape == (1, 2, 16, 32)
    torch.testing.assert_close(logits[..., :27], total / counts)
    assert torch.equal(logits[..., 27:], logits[..., 26:27].expand(-1, -1, -1, 5))


def test_an_image_smaller_than_the_window_is_filled_up():
    images = torch.randn(1, 3, 16, 16)
    logits = UnpaddedSlidingWindow(24, 8)(network, images, [sample((12, 16))], BLACK)
    assert logits.shape == (1, 2, 16, 16)


def test_images_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="batch_size=1"):
        UnpaddedSlidingWindow(8, 4)(network, torch.zeros(2, 3, 16, 16), [sample((16, 16)), sample((12, 16))], BLACK)
