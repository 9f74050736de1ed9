"""Pixel-adaptive refinement against its equation in loops."""

import numpy as np
import pytest
import torch

from openvocab.ops import pamr as module
from openvocab.ops.pamr import pamr


def literal(maps: np.ndarray, image: np.ndarray, dilations: tuple[int, ...], steps: int) -> np.ndarray:
    _, height, width = image.shape
    offsets = [(d * y, d * x) for d in dilations for y in (-1, 0, 1) for x in (-1, 0, 1)]

    def place(y: int, x: int) -> tuple[int, int]:
        return min(max(y, 0), height - 1), min(max(x, 0), width - 1)

    for _ in range(steps):
        refined = np.zeros_like(maps)
        for y in range(height):
            for x in range(width):
                around = np.array([image[:, *place(y + dy, x + dx)] for dy, dx in offsets])  # (9 n, 3)
                sigma = around.std(0, ddof=1)
                others = [(dy, dx) for dy, dx in offsets if (dy, dx) != (0, 0)]
                distance = [np.abs(image[:, y, x] - image[:, *place(y + dy, x + dx)]) for dy, dx in others]
                scores = np.array([-(d / (1e-8 + 0.1 * sigma)).mean() for d in distance])
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                refined[:, y, x] = sum(w * maps[:, *place(y + dy, x + dx)] for w, (dy, dx) in zip(weights, others))
        maps = refined
    return maps


def make(classes: int = 3, height: int = 6, width: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(classes, height, width, generator=generator), torch.rand(3, height, width, generator=generator)


@pytest.mark.parametrize(("dilations", "steps"), [((1,), 1), ((1, 3), 2)])
def test_equals_its_equation(dilations, steps):
    maps, image = make()
    expected = literal(maps.double().numpy(), image.double().numpy(), dilations, steps)
    torch.testing.assert_close(
        pamr(maps, image, dilations, steps).double(), torch.from_numpy(expected), atol=1e-5, rtol=0
    )


def test_classes_in_parts_are_the_same(monkeypatch):
    maps, image = make(classes=5)
    whole = pamr(maps, image, (1, 2), 3)
    monkeypatch.setattr(module, "ELEMENTS_AT_ONCE", 2 * maps[0].numel())
    assert pamr(maps, image, (1, 2), 3).equal(whole)


def test_an_edge_of_the_image_stays_an_edge_of_the_map():
    image = torch.zeros(3, 8, 8)
    image[:, :, 4:] = 1
    maps = torch.zeros(1, 8, 8)
    maps[:, :, :3] = 1  # ends a column too early
    refined = pamr(maps, image, (1,), 10)[0]
    assert refined[:, 3].min() > 0.5 > refined[:, 4].max()


def test_a_constant_image_is_a_plain_mean():
    maps, image = make()
    refined = pamr(maps, torch.ones_like(image), (1,), 1)
    around = maps[:, 1:4, 2:5]
    torch.testing.assert_close(refined[:, 2, 3], (around.sum((1, 2)) - maps[:, 2, 3]) / 8)


@pytest.mark.parametrize(("dilations", "steps"), [((), 1), ((0,), 1), ((1,), 0)])
def test_nothing_to_do_is_refused(dilations, steps):
    with pytest.raises(ValueError, match="at least 1"):
        pamr(*make(), dilations, steps)
