import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from openvocab.engine.hooks.picture_hook import PictureHook
from openvocab.structures import ClassificationPrediction, DetectionPrediction, Instances, Sample
from openvocab.vocabulary.vocabulary import Vocabulary

NAMES = Vocabulary.from_names(["cat", "dog"])


@pytest.fixture
def sample(tmp_path):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    return Sample("photo", NAMES, (64, 64), (64, 64), image_path=str(tmp_path / "photo.png"))


def show(folder, sample, prediction):
    PictureHook(folder).after_test_iter(None, 0, {"sample": [sample]}, [prediction])


def test_objects_are_drawn_beside_their_ground_truth_where_there_is_any(sample, tmp_path):
    boxes = torch.tensor([[5.0, 5, 30, 30]])
    found = DetectionPrediction(boxes, torch.tensor([0.9]), torch.tensor([1]), NAMES)
    show(tmp_path / "alone", sample, found)
    sample.instances = Instances(boxes, torch.tensor([0]))
    show(tmp_path / "compared", sample, found)
    widths = [Image.open(tmp_path / name / "photo.png").size[0] for name in ("alone", "compared")]
    assert 448 < widths[0] < 3 * 448 < widths[1]


def test_the_best_classes_are_written_below_a_classified_image(sample, tmp_path):
    sample.class_ids = (1,)
    show(tmp_path / "classified", sample, ClassificationPrediction(torch.zeros(2), NAMES))
    width, height = Image.open(tmp_path / "classified" / "photo.png").size
    assert width == 448 and height > 448 + 3 * 12  # the truth and both guesses


def test_other_predictions_are_refused(sample, tmp_path):
    with pytest.raises(ValueError, match="object"):
        show(tmp_path, sample, object())


@pytest.mark.parametrize("name", ["../../photo", "/photo", "a/../../../photo", "./photo", "..", "", "a\0b"])
def test_no_sample_id_leads_out_of_the_folder(sample, tmp_path, name):
    sample.sample_id = name
    found = DetectionPrediction(torch.tensor([[5.0, 5, 30, 30]]), torch.tensor([0.9]), torch.tensor([1]), NAMES)
    before = {path for path in tmp_path.rglob("*")}
    show(tmp_path / "deep/er/pictures", sample, found)
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert [path.is_relative_to(tmp_path / "deep/er/pictures") for path in made] == [True]


def test_pictures_that_cannot_be_written_cost_one_warning_and_a_count(sample, tmp_path, monkeypatch, caplog):
    def fill_the_disk(picture, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openvocab.engine.hooks.picture_hook.write_picture", fill_the_disk)
    hook, runner = PictureHook(tmp_path / "out"), SimpleNamespace(logger=logging.getLogger("pictures"))
    found = DetectionPrediction(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), NAMES)
    hook.after_test_iter(runner, 0, {"sample": [sample, sample]}, [found, found])
    hook.after_test_epoch(runner)
    first, last = caplog.messages
    assert "No space left" in first and last == f"2 of 2 pictures could not be written to {tmp_path / 'out'}"
