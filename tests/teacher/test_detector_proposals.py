"""Proposals of a detector: back in the image's frame, clipped, without rubbish, best first."""

import numpy as np
import pytest
import torch
from torch import nn

from openvocab.checkpoint.checkpoint import save_checkpoint
from openvocab.datasets.transforms import Resize
from openvocab.heads.base import Head
from openvocab.predictor import Predictor
from openvocab.preprocessor import BatchPreprocessor
from openvocab.teacher import detector_proposals
from openvocab.teacher.detector_proposals import DetectorProposals

BOXES = [[0, 0, 20, 20], [-10, 30, 60, 50], [10, 10, 10, 30], [500, 500, 600, 600], [2, 0, 20, 20], [40, 40, 60, 70]]
OBJECTNESS = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]


class FakeHead(Head):
    """A head that proposes fixed boxes of the padded input frame, and remembers what it was shown."""

    def proposals(self, features):
        self.seen = features
        return [torch.tensor(BOXES, dtype=torch.float32)], [torch.tensor(OBJECTNESS)]


class FakeModel(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head
        self.data_preprocessor = BatchPreprocessor([0.0] * 3, [1.0] * 3, 32)

    def encode(self, images):
        return images


@pytest.fixture
def files(tmp_path):
    (tmp_path / "detector.py").write_text("model = dict(type='FakeModel', depth=3)\n")
    save_checkpoint({"state_dict": {"w": torch.zeros(1)}}, tmp_path / "detector.pth")
    return str(tmp_path / "detector.py"), str(tmp_path / "detector.pth")


@pytest.fixture
def head(monkeypatch):
    head = FakeHead()
    predictor = Predictor(FakeModel(head), [Resize(short_side=80)])
    monkeypatch.setattr(detector_proposals, "load", lambda config, checkpoint, device: predictor)
    return head


@pytest.fixture
def item():
    """40 x 60, shown at 80 x 120 in a batch of 96 x 128."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 2] = 200  # red, in BGR
    return {"img": image, "sample_id": "x"}


def test_boxes_come_back_to_the_image_clipped_and_usable(files, head, item):
    found, objectness = DetectorProposals(*files)(item)
    assert objectness.tolist() == pytest.approx([0.9, 0.8, 0.5, 0.4])
    assert found.tolist() == [[0, 0, 10, 10], [0, 15, 30, 25], [1, 0, 10, 10], [20, 20, 30, 35]]
    assert found.dtype == torch.float32 and not found.is_inference()
    assert head.seen.shape == (1, 3, 96, 128)
    assert head.seen[0, :, 0, 0].tolist() == [200, 0, 0]  # RGB
    assert item["img"].shape == (40, 60, 3)


def test_the_best_are_kept(files, head, item):
    everything = DetectorProposals(*files)(item)
    cases = [
        ({"per_image": 2}, [0, 1]),
        ({"max_overlap": 0.5}, [0, 1, 3]),
        ({"min_objectness": 0.45}, [0, 1, 2]),
        ({"min_side": 10}, [0, 1, 3]),
    ]
    for arguments, kept in cases:
        for found, all_of_it in zip(DetectorProposals(*files, **arguments)(item), everything):
            assert torch.equal(found, all_of_it[kept])
    assert [len(part) for part in DetectorProposals(*files, min_objectness=1.0)(item)] == [0, 0]


def test_facts_follow_both_files_and_all_arguments(files, tmp_path):
    facts = [DetectorProposals(*files).facts, DetectorProposals(*files, per_image=5).facts]
    save_checkpoint({"state_dict": {"w": torch.ones(1)}}, tmp_path / "detector.pth")
    facts.append(DetectorProposals(*files).facts)
    (tmp_path / "detector.py").write_text("model = dict(type='FakeModel', depth=4)\n")
    facts.append(DetectorProposals(*files).facts)
    with (tmp_path / "detector.py").open("a") as file:
        file.write("test_dataloader = dict(dataset=dict(pipeline=[dict(type='Resize', short_side=80)]))\n")
    facts.append(DetectorProposals(*files).facts)
    assert all(a != b for number, a in enumerate(facts) for b in facts[:number])
    assert DetectorProposals(*files).facts == facts[-1]
    bookkeeping = {"message_hub": {"iter": 7}, "optimizer": {"state": {0: torch.ones(3)}}}
    save_checkpoint({"state_dict": {"w": torch.ones(1)}, **bookkeeping}, tmp_path / "detector.pth")
    assert DetectorProposals(*files).facts == facts[-1]  # the same weights of another run


def test_mistakes_are_named(files, head, item, monkeypatch):
    with pytest.raises(FileNotFoundError, match="proposals: no such checkpoint: none.pth"):
        DetectorProposals(files[0], "none.pth")
    with pytest.raises(ValueError, match="per_image >= 1"):
        DetectorProposals(*files, per_image=0)
    monkeypatch.delattr(FakeHead, "proposals")
    with pytest.raises(ValueError, match=r"detector.py: FakeHead makes no proposals"):
        DetectorProposals(*files)(item)
