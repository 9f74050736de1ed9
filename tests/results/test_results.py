"""What results tell: names, counts, scores, and parts of themselves."""

import copy
import io
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from result_parts import LABELS, NAMES, PHOTO, classification, detection, semantic

from openvocab.logit_map import TensorLogits
from openvocab.postprocess import semantic_prediction
from openvocab.results import DetectionResult, SemanticResult
from openvocab.structures import Sample
from openvocab.vocabulary.vocabulary import Vocabulary


def test_representations_are_one_short_line():
    assert repr(semantic()) == "SemanticResult(6x8, 3 of 4 names: sofa 77.5 %, cat 20.0 %, über größe 2.5 %)"
    assert repr(detection()) == "DetectionResult(6x8, 3 objects: 2 cat (best 0.90), 1 sofa (0.25))"
    assert repr(detection()[:0]) == "DetectionResult(6x8, 0 objects)"
    assert repr(classification()) == "ClassificationResult(über größe 0.400, floor 0.300, sofa 0.200, cat 0.100)"


def test_a_representation_of_many_names_stays_short():
    names = Vocabulary.from_names([f"name {number}" for number in range(200)])
    label_map = np.arange(200, dtype=np.uint8).reshape(10, 20)
    assert repr(SemanticResult(label_map, names)).endswith("name 9 0.5 %, and 190 more)")
    objects = DetectionResult(torch.zeros(200, 4), torch.linspace(1, 0, 200), torch.arange(200), names)
    assert repr(objects).endswith("1 name 9 (0.95), and 190 more)")


@pytest.mark.parametrize("make", [semantic, detection, classification])
def test_results_compare_by_identity_and_are_copied(make):
    result, same = make(), make()
    assert result == result and result != same and result in [same, result] and len({result, same}) == 2
    for other in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert other.to_json() == result.to_json() and np.array_equal(other.draw(), result.draw())


def test_lengths_count_names_found_objects_and_names():
    assert (len(semantic()), len(detection()), len(classification())) == (3, 3, 4)
    assert semantic().names == ("cat", "sofa", "floor", "über größe")


def test_tables_are_plain_values():
    assert semantic().table()[1] == {"name": "cat", "pixels": 8, "percent": 20.0, "score": 0.75}
    assert semantic(scores=False).table()[1] == {"name": "cat", "pixels": 8, "percent": 20.0}
    assert detection().table() == [
        {"name": "cat", "count": 2, "best_score": 0.9}, {"name": "sofa", "count": 1, "best_score": 0.25},
    ]  # fmt: skip
    box = {"x1": 1.0, "y1": 1.0, "x2": 4.0, "y2": 5.0}
    assert detection().objects()[0] == {"name": "cat", "score": 0.9, **box, "pixels": 11}
    assert "pixels" not in detection(masks=False).objects()[0]
    assert classification().table()[0] == {"name": "über größe", "score": 0.4}
    for result in (semantic(), detection(), classification()):
        assert json.loads(json.dumps(result.to_json()))["names"] == list(result.names)


def test_scores_are_those_of_each_label_and_heat_maps_those_of_a_name():
    result = semantic()
    assert np.array_equal(result.scores, np.where(LABELS == 255, 0, 0.75).astype(np.float32))
    heat = result.heat_map("kitten")  # a synonym is its class
    assert np.allclose(heat, np.where(LABELS == 0, 0.75, 0.25 / 3))
    assert np.array_equal(result.mask("cat"), LABELS == 0)
    with pytest.raises(ValueError, match=r"scores=True"):
        semantic(scores=False).heat_map("cat")
    with pytest.raises(ValueError, match="'dog' is not among the names of this prediction: cat, sofa, floor"):
        result.heat_map("dog")
    with pytest.raises(ValueError, match="no presence"):
        _ = result.presence


def test_filter_leaves_pixels_without_a_name():
    result = semantic()
    cats = result.filter(names="Kitten")
    assert isinstance(cats, SemanticResult) and set(np.unique(cats.label_map)) == {0, 255} and len(cats) == 1
    assert np.array_equal(result.label_map, LABELS)  # unchanged
    assert len(result.filter(min_score=0.8)) == 0
    assert np.array_equal(result.filter(min_score=0.7).label_map, LABELS)


@pytest.mark.parametrize("count", [254, 255, 256, 65534, 65535, 65536, 65537])
def test_pixels_lose_their_names_however_many_names_the_type_holds(count):
    labels = torch.tensor([[0, 1], [count - 1, count - 2]])
    names = Vocabulary.from_names([f"name {number}" for number in range(count)])
    prediction = semantic_prediction(labels, Sample("a", names, (2, 2), (2, 2)))
    result = SemanticResult(prediction.label_map, names).filter(names="name 1")
    assert (result.label_map == result.unlabeled).tolist() == [[True, False], [True, True]]
    assert result.table() == [{"name": "name 1", "pixels": 1, "percent": 100.0}]


def test_a_score_or_a_number_that_cannot_be_is_an_error():
    for make in (semantic, detection):
        for score in (50, -0.1, float("nan"), "0.5"):
            with pytest.raises(ValueError, match="min_score: expected a number from 0 to 1"):
                make().filter(score)
    with pytest.raises(ValueError, match="max_objects"):
        detection().filter(max_objects=-1)


def test_filter_and_indices_choose_objects():
    result = detection()
    assert result.filter(0.4).object_names == ["cat", "cat"]
    assert result.filter(names=["sofa"]).scores.tolist() == [0.25]
    assert result.filter(names="floor").object_names == [] and len(result.filter(max_objects=1)) == 1
    assert result[2].object_names == ["sofa"] and result[1:].scores.tolist() == [0.5, 0.25]
    assert result[result.scores > 0.4].object_names == ["cat", "cat"]
    assert result[np.array([2, 0])].object_names == ["sofa", "cat"]
    assert [len(one.masks) for one in result] == [1, 1, 1]
    assert result[-1].mask(0).sum() == 20
    with pytest.raises(IndexError):
        _ = result[3]
    with pytest.raises(ValueError, match="boxes only"):
        detection(masks=False).mask(0)
    with pytest.raises(ValueError, match=r"result.table\(\)"):
        classification().filter(0.5)
    assert classification().name == "über größe" and classification().score("kitten") == pytest.approx(0.1)


@pytest.mark.parametrize("make", [semantic, detection, classification])
def test_notebooks_show_a_picture(make):
    picture = np.asarray(Image.open(io.BytesIO(make()._repr_png_())))
    assert picture.ndim == 3 and np.array_equal(picture, make().draw())
    lost = make()
    lost.source = None
    assert lost._repr_png_() is None
    assert np.array_equal(lost.draw(PHOTO), picture)
    with pytest.raises(ValueError, match="no image"):
        lost.draw()


def test_a_file_that_has_another_size_now_is_not_drawn(tmp_path):
    result = semantic()
    result.source = tmp_path / "photo.png"
    Image.new("RGB", (3, 3)).save(result.source)
    with pytest.raises(ValueError, match="3x3 now.*6x8"):
        result.draw()


def test_a_heat_picture_is_bright_where_the_score_is_high():
    picture = semantic().draw(heat="cat", legend=False)
    factor = len(picture) // 6
    bright = picture.reshape(6, factor, 8, factor, 3).mean(axis=(1, 3, 4))
    assert bright[LABELS == 0].min() > bright[LABELS != 0].max()


@pytest.mark.parametrize("size", [(1, 900), (900, 1), (1, 1), (7, 300)])
def test_a_heat_picture_of_any_shape_has_a_scale(size):
    scores = TensorLogits(torch.rand(4, *size))
    result = SemanticResult(np.zeros(size, np.uint8), NAMES, "a", np.zeros((*size, 3), np.uint8), scores)
    assert result.draw(heat="cat").shape[1] > result.draw(heat="cat", legend=False).shape[1]


def test_an_empty_vocabulary_of_objects_has_empty_forms():
    empty = detection()[torch.zeros(0, dtype=torch.int64)]
    assert empty.to_yolo() == "" and empty.to_coco()["annotations"] == [] and empty.to_geojson()["features"] == []
    assert empty.draw().ndim == 3


def test_a_name_that_several_classes_share_means_all_of_them():
    names = Vocabulary.from_names(["screen", "wall", ["Screen", "display"]], repeated_names=["screen"])
    objects = DetectionResult(torch.zeros(4, 4), torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([2, 1, 0, 2]), names)
    assert objects.filter(names="screen").classes.tolist() == [2, 0, 2]
    assert objects.filter(names="display").classes.tolist() == [2, 2]
    label_map = np.array([[0, 1], [0, 1]], np.uint8)
    assert SemanticResult(label_map, names).mask("screen").tolist() == [[True, False], [True, False]]
    assert SemanticResult(label_map, names).filter(names="screen").label_map.tolist() == [[0, 255], [0, 255]]
