"""Which pairs of a box and a class become detections."""

import torch

from openvocab.detection.scored_boxes import DetectionChoice, choose_detections
from openvocab.structures import Sample
from openvocab.vocabulary.vocabulary import Vocabulary

SAMPLE = Sample("photo", original_size=(20, 30), input_size=(20, 30), vocabulary=Vocabulary.from_names(["cat", "sofa"]))


def test_a_box_without_an_area_is_not_detected():
    boxes = torch.tensor([[30.0, 2.0, 30.0, 8.0], [1.0, 2.0, 5.0, 8.0], [3.0, 20.0, 9.0, 20.0]])
    found = choose_detections(boxes, torch.tensor([[0.9, 0.1], [0.2, 0.3], [0.8, 0.7]]), SAMPLE, DetectionChoice())
    assert found.boxes.tolist() == [[1.0, 2.0, 5.0, 8.0]] and found.classes.tolist() == [1]
    assert found.scores.tolist() == [torch.tensor(0.3).item()]
