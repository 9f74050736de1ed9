"""Where regions come from: labels, a grid, a detector."""

import numpy as np
import pytest
import torch

from openvocab.datasets.annotations.instances import InstanceTable
from openvocab.teacher.proposal_sources import GridProposals, GroundTruthProposals


def item(height=40, width=60):
    return {"img": np.zeros((height, width, 3), np.uint8), "sample_id": "x", "image_position": 1}


def test_ground_truth_is_the_objects_of_the_image_without_crowds():
    boxes = np.arange(16, dtype=np.float32).reshape(4, 4)
    crowd = np.array([False, False, True, False])
    table = InstanceTable(np.array([0, 1, 4, 4]), boxes, np.zeros(4, np.int64), crowd, np.arange(4))
    source = GroundTruthProposals()
    found, objectness = source({**item(), "instance_table": table})
    assert found.tolist() == boxes[[1, 3]].tolist() and objectness.tolist() == [1, 1]
    assert source({**item(), "instance_table": table, "image_position": 2})[0].shape == (0, 4)
    with pytest.raises(ValueError, match="x: GroundTruthProposals needs a dataset with boxes"):
        source(item())


@pytest.mark.parametrize("size", [(40, 60), (64, 64), (100, 7), (1, 1)])
def test_a_grid_covers_the_image_with_boxes_inside_it(size):
    height, width = size
    boxes, objectness = GridProposals(sizes=(0.3, 0.9), aspect_ratios=(0.5, 1, 3), stride=0.5)(item(*size))
    assert objectness.tolist() == [1] * len(boxes)
    assert boxes.dtype == torch.float32 and boxes.ndim == 2
    assert (boxes >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) > 0).all()
    seen = torch.zeros(height, width, dtype=torch.bool)
    for x1, y1, x2, y2 in boxes.tolist():
        seen[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = True
    assert seen.all()


def test_a_grid_has_the_sizes_forms_and_distances_that_it_was_given():
    boxes, _ = GridProposals(sizes=(0.25,), aspect_ratios=(4.0,), stride=0.5)(item(64, 128))
    sides = boxes[:, 2:] - boxes[:, :2]
    assert torch.allclose(sides, torch.tensor([32.0, 8.0]).expand_as(sides))
    assert len(boxes) == (1 + 6) * (1 + 14)  # (128 - 32) / 16 steps and (64 - 8) / 4
    assert boxes[:, 0].unique().diff().max() <= 16 and boxes[:, 1].unique().diff().max() <= 4
    assert len(GridProposals(sizes=(0.25, 0.5))(item(64, 64))[0]) == 49 + 9


@pytest.mark.parametrize("arguments", [{"sizes": ()}, {"sizes": (0.0,)}, {"aspect_ratios": (-1,)}, {"stride": 0}])
def test_a_grid_of_nothing_is_refused(arguments):
    with pytest.raises(ValueError, match="expected positive numbers"):
        GridProposals(**arguments)
