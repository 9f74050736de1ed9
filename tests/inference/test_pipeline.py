"""The predictor sees a photo as the test loop does, whatever transforms a user has registered."""

import numpy as np
import pytest
import torch
from config_parts import REPOSITORY, without_weights
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from PIL import Image

from openvocab import load
from openvocab.checkpoint.checkpoint import save_checkpoint
from openvocab.config.config import read_config
from openvocab.datasets.transforms import PackSample, Resize
from openvocab.engine.runner import build_runner
from openvocab.predictor import Predictor, image_steps
from openvocab.registry import METRICS, MODELS, TRANSFORMS
from openvocab.vocabulary.vocabulary import Vocabulary

NAMES = ["cat", "dog", "sky", "other"]
KEPT = []


@TRANSFORMS.register_module()
class UsersLetterbox(BaseTransform):
    """Shrink to a square, gray bars around."""

    def transform(self, results):
        height, width = results["img"].shape[:2]
        side = max(height, width)
        square = np.full((side, side, 3), 114, np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = results["img"]
        results["img"], results["img_shape"] = square, square.shape[:2]
        return results


@TRANSFORMS.register_module()
class UsersResize(Resize):
    """A subclass under another name."""


@TRANSFORMS.register_module()
class UsersBlueOnly(BaseTransform):
    """Depends on the order of the channels, in place."""

    def transform(self, results):
        results["img"][..., 1:] = 0
        return results


@TRANSFORMS.register_module()
class UsersReader(BaseTransform):
    """Reads files in a way of its own, and leaves an image alone that is there."""

    def transform(self, results):
        if "img" not in results:
            results["img"] = np.ascontiguousarray(np.asarray(Image.open(results["img_path"]))[::-1, :, ::-1])
        results["ori_shape"] = results["img_shape"] = results["img"].shape[:2]
        return results


@TRANSFORMS.register_module()
class UsersPacker(BaseTransform):
    """Packs in a way of its own."""

    def transform(self, results):
        return {**PackSample()(results), "note": "mine"}


@METRICS.register_module()
class KeepPredictions(BaseMetric):
    """Keep what the test loop predicts."""

    def process(self, data_batch, data_samples):
        KEPT.extend(data_samples)
        self.results.append(None)

    def compute_metrics(self, results):
        return {}


PIPELINES = {
    "letterbox": [dict(type="LoadImage"), dict(type="UsersLetterbox"), dict(type="PackSample")],
    "subclass": [dict(type="LoadImage"), dict(type="UsersResize", short_side=80), dict(type="PackSample")],
    "colors": [dict(type="LoadImage"), dict(type="UsersBlueOnly"), dict(type="Resize", size=(64, 96)),
                dict(type="LoadLabels"), dict(type="PackSample")],
    "reader": [dict(type="UsersReader"), dict(type="PackSample")],
    "packer": [dict(type="LoadImage"), dict(type="ResizeCenterCrop", size=(64, 64)), dict(type="UsersPacker")],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for name, size in (("a", (48, 80, 3)), ("b", (70, 50, 3))):
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(folder / "images" / f"{name}.png")
    torch.manual_seed(0)
    model = MODELS.build(model_config())
    save_checkpoint({"state_dict": model.state_dict()}, folder / "model.pth")
    return folder


def model_config():
    return by_name(without_weights(read_config(REPOSITORY / "configs" / "lseg_shapes.py").model.to_dict()))


def by_name(part):
    """A run writes its config down: no classes in it."""
    if isinstance(part, dict):
        return {key: by_name(value) for key, value in part.items()}
    return part.__name__ if isinstance(part, type) else part


def test_config(folder, pipeline):
    dataset = dict(type="SegmentationDataset", root=str(folder), images="images", annotations=None, classes=NAMES)
    dataset |= dict(test_mode=True, pipeline=pipeline)
    sampler = dict(type="DefaultSampler", shuffle=False)
    return Config(
        dict(
            model=model_config(),
            test_dataloader=dict(batch_size=1, num_workers=0, dataset=dataset, sampler=sampler),
            test_cfg=dict(),
            test_evaluator=dict(type="KeepPredictions"),
        )
    )


test_config.__test__ = False


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_the_predictor_answers_as_the_test_loop(folder, tmp_path, pipeline):
    del KEPT[:]
    config, checkpoint = test_config(folder, pipeline), folder / "model.pth"
    build_runner(config, work_dir=tmp_path, checkpoint=checkpoint, training=False).test()
    predictor = load(test_config(folder, pipeline), checkpoint, device="cpu")
    unprepared = Predictor(MODELS.build(model_config()))
    unprepared.model.load_state_dict(predictor_weights(checkpoint))
    changed = False
    for expected, path in zip(KEPT, sorted((folder / "images").iterdir()), strict=True):
        actual = predictor(path, NAMES)
        assert np.array_equal(actual.label_map, expected.label_map)
        changed |= not np.array_equal(unprepared(path, NAMES).label_map, expected.label_map)
    assert changed or pipeline is PIPELINES["packer"], "the transform matters"


def predictor_weights(checkpoint):
    from openvocab.checkpoint.checkpoint import load_state_dict

    return load_state_dict(checkpoint)


@pytest.mark.parametrize("name", ["letterbox", "subclass", "colors"])
def test_arrays_and_files_are_one(folder, name):
    predictor = load(test_config(folder, PIPELINES[name]), folder / "model.pth", device="cpu")
    path = folder / "images" / "a.png"
    image = np.asarray(Image.open(path))
    before = image.copy()
    expected = predictor(path, NAMES).label_map
    for given in (image, Image.open(path), path.read_bytes(), torch.from_numpy(image.copy())):
        assert np.array_equal(predictor(given, NAMES).label_map, expected)
    assert np.array_equal(image, before)


def test_predictions_stay_in_the_frame_of_the_photo(folder):
    pipeline = [dict(type="LoadImage"), dict(type="Resize", size=(64, 64)), dict(type="TakeAsOriginal"),
                dict(type="PackSample")]  # fmt: skip
    predictor = load(test_config(folder, pipeline), folder / "model.pth", device="cpu")
    assert predictor(folder / "images" / "a.png", NAMES).label_map.shape == (48, 80)


def test_a_data_set_within_another_is_found(folder):
    config = test_config(folder, PIPELINES["letterbox"])
    config.test_dataloader.dataset = dict(type="OtherVocabulary", dataset=config.test_dataloader.dataset)
    predictor = load(config, folder / "model.pth", device="cpu")
    assert [type(step).__name__ for step in predictor.pipeline] == ["LoadImage", "UsersLetterbox", "PackSample"]
    assert [step["type"] for step in image_steps(config)] == ["UsersLetterbox"]


FOR_IMAGES_IN_MEMORY = {
    "geometry": [dict(type="ResizeCenterCrop", size=(48, 48))],
    "mmcv": [dict(type="mmcv.transforms.Resize", scale=(48, 48))],  # passes over an image that is not there
    "user": [dict(type="UsersBlueOnly"), dict(type="ResizeCenterCrop", size=(48, 48))],
}


@pytest.mark.parametrize("steps", FOR_IMAGES_IN_MEMORY.values(), ids=FOR_IMAGES_IN_MEMORY)
def test_the_pipeline_of_a_data_set_that_brings_images_takes_files_too(folder, steps):
    packed, read = [*steps, dict(type="PackSample")], [dict(type="LoadImage"), *steps]
    predictor, reading = (Predictor(torch.nn.Module(), list(map(TRANSFORMS.build, p))) for p in (packed, read))
    path = folder / "images" / "a.png"
    expected, expected_sample = reading.prepare(path)
    assert expected.shape == (3, 48, 48)
    for given in (path, Image.open(path), np.asarray(Image.open(path)), path.read_bytes()):
        image, sample = predictor.prepare(given)
        assert torch.equal(image, expected) and sample.original_size == expected_sample.original_size == (48, 80)


def test_a_classifier_of_cifar_takes_photos(folder):
    tiny = {"model.backbone.model": "vit_tiny_patch16_224", "model.backbone.pretrained": None}
    predictor = load(read_config(REPOSITORY / "configs" / "vit_cifar10.py", tiny), device="cpu")
    path = folder / "images" / "a.png"
    assert predictor(path, "cat, dog").logits.shape == (2,)
    results = {"img": np.asarray(Image.open(path))[..., ::-1], "ori_shape": (48, 80), "sample_id": "of the dataset"}
    for step in predictor.pipeline:
        results = step(results)
    assert torch.equal(results["image"], predictor.prepare(path)[0])


def test_steps_alone_are_completed(folder):
    predictor = Predictor(MODELS.build(model_config()), [Resize(short_side=96)])
    image, sample = predictor.prepare(folder / "images" / "a.png", Vocabulary.from_names(NAMES))
    assert image.shape == (3, 96, 160) and sample.original_size == (48, 80) and sample.input_size == (96, 160)


@pytest.mark.parametrize(
    "transform, message",
    [(lambda results: None, "returned None"), (lambda results: results["instances"], "needs 'instances'")],
)
def test_a_transform_that_asks_too_much_is_named(folder, transform, message):
    predictor = Predictor(MODELS.build(model_config()), [transform])
    with pytest.raises(ValueError, match=f"function of the test pipeline {message}"):
        predictor(folder / "images" / "a.png", NAMES)


def test_large_images_are_not_copied_and_not_changed(monkeypatch):
    """What holds above 256 MB, tried on small ones."""
    from openvocab.datasets.transforms import packing
    from openvocab.images import image_input

    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    before, predictor = image.copy(), Predictor(MODELS.build(model_config()))
    expected = predictor.prepare(image)[0]
    monkeypatch.setattr(packing, "LARGE_BYTES", 0)
    packed = predictor.prepare(image)[0]
    assert torch.equal(packed, expected) and np.array_equal(image, before)
    monkeypatch.setattr(image_input, "LARGE_BYTES", 0)
    packed = predictor.prepare(image)[0]
    assert torch.equal(packed, expected) and packed.data_ptr() == image.ctypes.data
    assert np.array_equal(image, before)
