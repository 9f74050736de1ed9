import pytest
import torch
import torch.nn.functional as F

from openvocab.inference.sliding_window import SlidingWindow, pad_with_black, window_starts

BLACK = torch.tensor([-1.0, -2.0, -3.0]).view(1, 3, 1, 1)


def constant(images):
    return torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(len(images), 2, images.shape[2] // 4, images.shape[3] // 4)


def positional(images):
    """Outputs that depend on the content and on the position within the window."""
    pooled = F.avg_pool2d(images[:, :2], 4)
    ramp = torch.arange(pooled.shape[3]) + 10.0 * torch.arange(pooled.shape[2])[:, None]
    return pooled * (1 + ramp)


def naive(network, images, window, stride, cell=4):
    """Average full-resolution maps, one image and one window at a time."""
    height, width = images.shape[-2:]
    total, counts = torch.zeros(len(images), 2, height, width), torch.zeros(height, width)
    for y in [*range(0, height - window, stride), height - window]:
        for x in [*range(0, width - window, stride), width - window]:
            logits = network(images[..., y : y + window, x : x + window])
            total[..., y : y + window, x : x + window] += F.interpolate(logits, scale_factor=cell, mode="nearest")
            counts[y : y + window, x : x + window] += 1
    return (total / counts)[..., ::cell, ::cell]


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (40, 100), (32, 36)])
@pytest.mark.parametrize("stride", [32, 20, 4])
def test_overlaps_are_averaged(size, stride):
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    logits = SlidingWindow(32, stride, batch_size=5)(positional, images, [], BLACK)
    assert logits.shape == (2, 2, size[0] // 4, size[1] // 4)
    torch.testing.assert_close(logits, naive(positional, images, 32, stride))


def test_strides_are_rounded_down_to_the_output_grid():
    assert window_starts(100, 32, 21, unit=4) == [0, 20, 40, 60, 68]
    assert window_starts(100, 32, 3, unit=4)[:3] == [0, 4, 8]
    assert window_starts(32, 32, 21) == [0]
    images = torch.randn(1, 3, 64, 96)
    expected = SlidingWindow(32, 20)(positional, images, [], BLACK)
    torch.testing.assert_close(SlidingWindow(32, 23)(positional, images, [], BLACK), expected)


@pytest.mark.parametrize("size", [(20, 100), (8, 12), (48, 16)])
def test_small_images_are_filled_up_with_black(size):
    images = torch.randn(1, 3, *size)
    seen = []

    def network(windows):
        seen.append(windows)
        return positional(windows)

    logits = SlidingWindow(32, 16)(network, images, [], BLACK)
    assert logits.shape[-2:] == (size[0] // 4, size[1] // 4)
    assert all(windows.shape[-2:] == (32, 32) for windows in seen)
    if size[0] < 32:
        assert (seen[0][:, :, size[0] :] == BLACK).all()
    torch.testing.assert_close(seen[0][..., : size[0], : size[1]], images[..., :32, :32], rtol=0, atol=0)


def test_constant_logits_stay_constant():
    logits = SlidingWindow((32, 48), (20, 28))(constant, torch.randn(1, 3, 96, 128), [], BLACK)
    assert (logits == torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)).all()


def test_one_window_is_the_whole_image():
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(SlidingWindow(32, 16)(positional, images, [], BLACK), positional(images))


def test_padding_leaves_large_images_alone():
    images = torch.randn(1, 3, 8, 8)
    assert pad_with_black(images, (8, 4), BLACK) is images


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="stride <= window"):
        SlidingWindow(32, 33)
    with pytest.raises(TypeError, match="dense heads"):
        SlidingWindow(32, 16)(lambda images: images.mean((2, 3)), torch.zeros(1, 3, 32, 32), [], BLACK)
    with pytest.raises(ValueError, match="divisible by the backbone's stride"):
        SlidingWindow(30, 16)(constant, torch.zeros(1, 3, 64, 64), [], BLACK)
