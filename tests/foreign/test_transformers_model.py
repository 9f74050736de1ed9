"""What holds for every family: order, synonyms, chunks, sizes, one image pass, precision, threads, and refusals."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import NAMES

import openvocab
from openvocab.datasets.transforms import Resize
from openvocab.foreign.transformers_model import TransformersModel
from openvocab.group_overlays import find_groups
from openvocab.predictor import Predictor
from openvocab.structures import DetectionPrediction, Sample
from openvocab.vocabulary.vocabulary import Vocabulary

DETECTORS = ["owlvit", "owlv2", "grounding-dino", "mm-grounding-dino", "omdet-turbo"]
SEGMENTERS = ["clipseg", "groupvit"]
IMAGE_PASS = {
    "owlvit": "network.owlvit.vision_model",
    "owlv2": "network.owlv2.vision_model",
    "grounding-dino": "network.model.backbone.backbone",
    "mm-grounding-dino": "network.model.backbone.backbone",
    "omdet-turbo": "network.vision_backbone",
    "clipseg": "network.clip.vision_model",
    "groupvit": "network.vision_model",
}


@pytest.fixture(scope="module", params=DETECTORS + SEGMENTERS)
def name(request) -> str:
    return request.param


def photo(height: int = 90, width: int = 120, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def named(prediction: Any) -> Any:
    """A prediction by the names of its classes, in an order that does not depend on theirs."""
    names = np.array(prediction.vocabulary.class_names)
    if not isinstance(prediction, DetectionPrediction):
        return names[prediction.label_map].tolist()
    rows = zip(prediction.scores.tolist(), names[prediction.classes].tolist(), prediction.boxes.tolist())
    rounded = [(round(score, 4), label, [round(x, 2) for x in box]) for score, label, box in rows]
    return sorted(rounded, reverse=True)


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, DetectionPrediction):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.boxes, other.boxes, atol=1e-3, rtol=1e-5)
        assert one.classes.tolist() == other.classes.tolist()
    else:
        assert (one.label_map == other.label_map).mean() > 0.999


def test_the_order_of_the_classes_does_not_matter(saved, name):
    every_pair = dict(one_class_per_box=False, nms_iou=1.0)
    for settings in ({}, dict(names_at_once=2)):
        model = Predictor(TransformersModel(saved(name), detections=every_pair, **settings))
        one = named(model(photo(), NAMES))
        other = named(model(photo(), NAMES[::-1]))
        if name in SEGMENTERS:
            assert (np.array(one) == np.array(other)).mean() > 0.999
        else:
            for a, b in zip(one, other, strict=True):
                assert a[1] == b[1] and a[0] == pytest.approx(b[0], abs=2e-4) and a[2] == pytest.approx(b[2], abs=0.05)


@pytest.mark.parametrize("name", ["owlvit", "owlv2", "clipseg", "groupvit"])
def test_names_in_chunks_are_names_at_once_where_the_method_allows(saved, name):
    together = Predictor(TransformersModel(saved(name), names_at_once=100))(photo(), NAMES)
    assert_same(Predictor(TransformersModel(saved(name), names_at_once=2))(photo(), NAMES), together)


@pytest.mark.parametrize("name", ["grounding-dino", "mm-grounding-dino", "omdet-turbo"])
def test_a_chunk_of_a_fused_network_predicts_as_if_its_names_were_all(saved, name):
    model = Predictor(TransformersModel(saved(name), names_at_once=2, detections=dict(max_detections=1000)))
    prediction = model(photo(), NAMES)
    in_order = sorted(NAMES)
    chunks = [in_order[:2], in_order[2:4], in_order[4:]]
    apart = [row for chunk in chunks for row in named(model(photo(), chunk))]
    assert named(prediction) == sorted(apart, reverse=True)


def test_the_image_passes_the_network_once(saved, name):
    model = TransformersModel(saved(name), names_at_once=1)
    calls = []
    model.family.get_submodule(IMAGE_PASS[name]).register_forward_hook(lambda *_: calls.append(1))
    predictor = Predictor(model)
    predictor(photo(), NAMES)
    predictor(photo(seed=1), NAMES)
    assert len(calls) == 2


@pytest.mark.parametrize("size", [(30, 200), (200, 30), (64, 64), (17, 23)])
def test_predictions_are_in_the_frame_of_a_photo_of_any_size(saved, name, size):
    prediction = Predictor(TransformersModel(saved(name)))(photo(*size), NAMES)
    if name in SEGMENTERS:
        assert prediction.label_map.shape == size and prediction.label_map.max() < len(NAMES)
    else:
        limits = torch.tensor([size[1], size[0]] * 2)
        assert len(prediction.boxes) and (prediction.boxes >= 0).all() and (prediction.boxes <= limits).all()
        assert (prediction.scores.diff() <= 0).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_boxes_are_in_the_frame_of_the_photo_if_a_pipeline_resizes_it(saved, name):
    model = TransformersModel(saved(name))
    size = (60, 80)
    resized = Predictor(model, [Resize(size=size)])(photo(90, 160), NAMES)
    small = Resize(size=size)({"img": photo(90, 160)})["img"]
    apart = Predictor(model)(small, NAMES)
    torch.testing.assert_close(resized.boxes, apart.boxes * torch.tensor([2, 1.5] * 2), atol=1e-3, rtol=1e-5)


def test_images_of_a_batch_do_not_depend_on_each_other(saved, name):
    model = TransformersModel(saved(name)).eval()
    vocabulary = Vocabulary.from_names(NAMES)
    photos = [photo(90, 120), photo(50, 70, seed=1), photo(64, 20, seed=2)]
    data = {
        "image": [torch.from_numpy(image).permute(2, 0, 1) for image in photos],
        "sample": [Sample(str(i), vocabulary, image.shape[:2], image.shape[:2]) for i, image in enumerate(photos)],
    }
    for index, prediction in enumerate(model.test_step(data)):
        assert prediction.sample_id == str(index)
        assert_same(prediction, Predictor(model)(photos[index], NAMES))


@pytest.mark.parametrize("name", DETECTORS)
def test_a_class_has_the_score_of_its_best_name(saved, name):
    model = Predictor(TransformersModel(saved(name), detections=dict(one_class_per_box=False, nms_iou=1.0)))
    apart = model(photo(), Vocabulary.from_names(["cat", "red sofa"]))
    merged = model(photo(), Vocabulary.from_names([["cat", "red sofa"]], synonym_merge="max"))
    best: dict[tuple, float] = {}
    for score, _, box in named(apart):
        best[tuple(box)] = max(score, best.get(tuple(box), 0.0))
    if name == "omdet-turbo":  # the sentence for the names is the same, and so are the queries
        assert len(merged.scores) == len(best)
    assert sorted(best.values(), reverse=True) == pytest.approx([row[0] for row in named(merged)], abs=2e-4)


def test_the_background_is_not_detected(saved, name):
    if name in SEGMENTERS:
        return
    model = Predictor(TransformersModel(saved(name)))
    background = NAMES[int(model(photo(), NAMES).classes[0])]
    prediction = model(photo(), Vocabulary.from_names(NAMES, background=background))
    assert NAMES.index(background) not in prediction.classes.tolist()


def test_pixels_without_a_likely_name_are_background(saved):
    vocabulary = Vocabulary.from_names([*NAMES, "background"], background="background")
    for threshold, share in ((1.0, 1.0), (0.0, 0.0)):
        model = TransformersModel(saved("clipseg"), options=dict(background_threshold=threshold))
        label_map = Predictor(model)(photo(), vocabulary).label_map
        assert (label_map == len(NAMES)).mean() == share


@pytest.mark.parametrize("name", ["owlv2", "clipseg", "groupvit"])
def test_templates_are_averaged(saved, name):
    one = TransformersModel(saved(name), templates=["a {}"])
    both = TransformersModel(saved(name), templates=["a {}", "the {}"])
    vocabulary = Vocabulary.from_names(NAMES)
    with torch.no_grad():
        rows, averaged = (model.family.encode_texts(vocabulary).embed for model in (one, both))
        the = TransformersModel(saved(name), templates=["the {}"]).family.encode_texts(vocabulary).embed
    expected = (rows + the) / 2
    if name != "clipseg":
        expected = torch.nn.functional.normalize(expected, dim=-1)
    torch.testing.assert_close(averaged, expected)


def test_bfloat16_changes_little(saved, name):
    exact = TransformersModel(saved(name))
    half = copy.deepcopy(exact).compute_in(torch.bfloat16)
    one, other = (Predictor(model)(photo(), NAMES) for model in (exact, half))
    if name in SEGMENTERS:
        assert (one.label_map == other.label_map).mean() > 0.8
    else:
        assert other.scores.dtype == torch.float32
        assert (one.scores[:3] - other.scores[:3]).abs().max() < 0.1


def test_threads_do_not_disturb_each_other(saved):
    predictor = Predictor(TransformersModel(saved("grounding-dino"), names_at_once=1))
    photos = [photo(seed=seed) for seed in range(8)]
    expected = [predictor(image, NAMES) for image in photos]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(lambda image: predictor(image, NAMES), photos), expected):
            assert_same(one, other)


def test_thousands_of_names_fit_the_length_of_the_text(saved):
    names = [f"thing {first}{second}" for first in "abcdefghij" for second in "abcdefghij"]
    every_pair = dict(one_class_per_box=False, nms_iou=1.0, max_detections=5000)
    for name in ("owlv2", "grounding-dino", "omdet-turbo"):
        prediction = Predictor(TransformersModel(saved(name), detections=every_pair))(photo(), names)
        assert prediction.classes.bincount(minlength=100).min() >= 10


def test_a_checkpoint_replaces_the_weights(saved, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(
        "from openvocab.foreign.transformers_model import TransformersModel\n"
        f"model = dict(type=TransformersModel, pretrained={str(saved('owlv2'))!r})\n"
        "test_dataloader = dict(dataset=dict(pipeline=[]))\n"
    )
    predictor = openvocab.load(config)
    state = {key: value + 0.1 for key, value in predictor.model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "other.pth")
    expected = predictor(photo(), NAMES)
    loaded = openvocab.load(config, tmp_path / "other.pth")
    assert not torch.equal(loaded(photo(), NAMES).scores, expected.scores)
    predictor.model.load_state_dict(state)
    assert_same(predictor(photo(), NAMES), loaded(photo(), NAMES))


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("owlv2", dict(detections=dict(max_detection=5)), "detections: unknown 'max_detection'; did you mean"),
        ("owlv2", dict(detections=dict(nms_iou=2)), "detections.nms_iou: expected a number from 0 to 1"),
        ("owlv2", dict(options=dict(phrase_score="max")), "options: unknown 'phrase_score'"),
        ("owlv2", dict(names_at_once=0), "names_at_once: expected a whole number of at least 1"),
        ("grounding-dino", dict(options=dict(phrase_score="sum")), "phrase_score"),
        ("grounding-dino", dict(templates="imagenet7"), "templates: expected one sentence"),
        ("omdet-turbo", dict(templates="imagenet7"), "templates: expected one sentence"),
        ("clipseg", dict(options=dict(background_threshold=3)), "background_threshold: expected a number from 0 to 1"),
    ],
)
def test_wrong_settings_are_named(saved, name, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        TransformersModel(saved(name), **settings)


@pytest.mark.parametrize(
    ("names", "message"), [(["cat", "..."], "end a phrase"), (["cat", "a " * 60], "reads at most")]
)
def test_names_that_a_network_cannot_read_are_named(saved, names, message):
    predictor = Predictor(TransformersModel(saved("grounding-dino")))
    with pytest.raises(ValueError, match=message):
        predictor(photo(), Vocabulary((tuple(names[:1]), tuple(names[1:]))))


def test_a_long_prompt_is_cut_with_a_warning(saved, caplog):
    prediction = Predictor(TransformersModel(saved("owlv2")))(
        photo(), ["cat", "a very long name of a rare animal of the sea"]
    )
    assert len(prediction.scores) and "was cut to 32; it begins 'a very long name" in caplog.text


def test_training_and_embeddings_are_refused(saved):
    model = TransformersModel(saved("owlv2"))
    with pytest.raises(ValueError, match="only predict"):
        model([], [], mode="loss")
    predictor = Predictor(model)
    for embed in (lambda: predictor.encode_image(photo()), lambda: predictor.encode_text("cat")):
        with pytest.raises(ValueError, match="no embedding of"):
            embed()
    with pytest.raises(ValueError, match="OWLFamily is a whole network, without a head"):
        find_groups(predictor, photo())
    assert not model.train().training and not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("version", [None, "4.57.1"])
def test_without_a_recent_transformers_one_line_says_what_to_install(saved, monkeypatch, version):
    if version is None:
        monkeypatch.setattr("openvocab.foreign.transformers_model.find_spec", lambda name: None)
    else:
        monkeypatch.setattr("transformers.__version__", version)
    with pytest.raises(ImportError, match=r"pip install 'openvocab\[hf\]'") as error:
        TransformersModel(saved("owlv2"))
    assert "\n" not in str(error.value)


def test_another_architecture_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="model_type 'bert' in config.json is none of owlvit, owlv2, grounding-dino"):
        TransformersModel(tmp_path)
