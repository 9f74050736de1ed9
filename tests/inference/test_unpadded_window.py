"""Windows without the batch's padding, against a plain loop."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.inference import UnpaddedSlidingWindow, UnpaddedWholeImage
from openvocab.inference import stretched_logits as module
from openvocab.ops.pamr import pamr
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


def coarse_network(images: Tensor) -> Tensor:
    """One output for 4x4 pixels that depends on the whole window; refuses what it cannot divide."""
    assert images.shape[-2] % 4 == images.shape[-1] % 4 == 0
    return F.avg_pool2d(images[:, :2], 4) + images.mean((1, 2, 3), keepdim=True)


def stretched(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def random_images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_windows_of_a_coarse_head_are_averaged_on_pixels():
    images = random_images(1, 3, 16, 52)
    logits = UnpaddedSlidingWindow(16, 8)(coarse_network, images, [sample((16, 50))], BLACK)
    total, counts = torch.zeros(1, 2, 16, 50), torch.zeros(50)
    for x in (0, 8, 16, 24, 32, 34):  # as mmsegmentation: the last one is shifted back to the border
        total[..., x : x + 16] += stretched(coarse_network(images[..., x : x + 16]), (16, 16))
        counts[x : x + 16] += 1
    assert logits.shape == (1, 2, 16, 52)
    torch.testing.assert_close(logits[..., :50], total / counts)


def test_many_logits_come_in_parts_with_the_same_values(monkeypatch):
    images = random_images(1, 3, 20, 50)
    expected = UnpaddedSlidingWindow(16, 8)(coarse_network, images, [sample((20, 50))], BLACK)
    monkeypatch.setattr(module, "LOGITS_IN_MEMORY", 1)
    (logits,) = UnpaddedSlidingWindow(16, 8)(coarse_network, images, [sample((20, 50))], BLACK)
    torch.testing.assert_close(logits.whole(), expected[0])


def test_a_smaller_image_is_one_smaller_window():
    images = random_images(1, 3, 16, 24)
    logits = UnpaddedSlidingWindow((24, 12), (8, 4), patch_size=4)(coarse_network, images, [sample((14, 22))], BLACK)
    total, counts = torch.zeros(1, 2, 14, 22), torch.zeros(22)
    for x in (0, 4, 8, 10):
        window = images[..., :14, x : x + 12]
        total[..., x : x + 12] += stretched(coarse_network(window[..., :12, :]), (14, 12))
        counts[x : x + 12] += 1
    torch.testing.assert_close(logits[..., :14, :22], total / counts)


def test_the_whole_image_drops_what_is_beyond_its_patches():
    images = random_images(2, 3, 16, 24)
    logits = UnpaddedWholeImage(4)(coarse_network, images, [sample((15, 22))] * 2, BLACK)
    torch.testing.assert_close(logits[..., :15, :22], stretched(coarse_network(images[..., :12, :20]), (15, 22)))
    assert logits.shape == (2, 2, 16, 24)
    with pytest.raises(ValueError, match="3x22 pixels hold no patch of 4"):
        UnpaddedWholeImage(4)(coarse_network, images, [sample((3, 22))] * 2, BLACK)
    with pytest.raises(ValueError, match="batch_size=1"):
        UnpaddedWholeImage(4)(coarse_network, images, [sample((15, 22)), sample((15, 20))], BLACK)


def test_a_patch_size_is_no_larger_than_the_window():
    with pytest.raises(ValueError, match="patch_size.*17"):
        UnpaddedSlidingWindow(16, 8, patch_size=17)
    with pytest.raises(ValueError, match="patch_size.*0"):
        UnpaddedWholeImage(0)


def test_each_window_is_refined_on_its_own_pixels():
    images = random_images(1, 3, 16, 24)
    strategy = UnpaddedSlidingWindow(16, 8, align_corners=True, pamr_dilations=(2,), pamr_steps=2)
    logits = strategy(coarse_network, images, [sample((16, 24))], BLACK)
    total, counts = torch.zeros(1, 2, 16, 24), torch.zeros(24)
    for x in (0, 8):
        window = images[..., x : x + 16]
        aligned = F.interpolate(coarse_network(window), size=(16, 16), mode="bilinear", align_corners=True)
        total[..., x : x + 16] += pamr(aligned[0], window[0], (2,), 2)
        counts[x : x + 16] += 1
    torch.testing.assert_close(logits, total / counts)
