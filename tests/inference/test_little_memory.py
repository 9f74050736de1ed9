"""Whole predictors while memory is short: the same answers, one line in the log, and the lesson is kept."""

import math

import numpy as np
import pytest
import torch
from config_parts import REPOSITORY, without_weights
from mmengine.config import Config
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from openvocab import Predictor, load
from openvocab.config.config import read_config
from openvocab.inference import SlidingWindow, UnpaddedSlidingWindow
from openvocab.process.memory_fallback import NotEnoughMemory

NAMES = [f"{color} {form}" for color in ("red", "green", "blue", "pale") for form in ("disc", "box", "ring", "star")]
MANY = [f"{name} {number}" for name in NAMES for number in range(10)]
DENSE = ["lseg_shapes", "dense_clip_shapes", "groupvit_shapes"]
DETECTORS = ["vild_shapes", "fvlm_shapes"]
ERRORS = {
    "python": MemoryError,
    "torch": torch.cuda.OutOfMemoryError,
    "torch on the CPU": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8"),
}


class Memory(TorchDispatchMode):
    """Let no tensor be made of more than `most` elements; count those that would have been."""

    def __init__(self, most=math.inf, error=MemoryError):
        super().__init__()
        self.most, self.error = most, error
        self.failures = self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not shares_memory(result, args):
            self.largest = max(self.largest, result.numel())
            if result.numel() > self.most:
                self.failures += 1
                raise self.error()
        return result


def shares_memory(result, args):
    if result.is_mkldnn:  # packed for a library, which keeps its storage to itself
        return False
    tensors = [value for value in args if isinstance(value, torch.Tensor) and not value.is_mkldnn]
    return any(value.untyped_storage().data_ptr() == result.untyped_storage().data_ptr() for value in tensors)


def without_watching(function):
    def unwatched(*inputs):
        with _disable_current_modes():
            return function(*inputs)

    return unwatched


def build(name, **changes) -> Predictor:
    torch.manual_seed(0)
    config = read_config(REPOSITORY / "configs" / f"{name}.py")
    model = without_weights(config.model.to_dict())
    for key, value in changes.items():
        model["head"][key] = value
    return load(Config(dict(model=model)), device="cpu")


def build_short_of_logits(name):
    """Build a predictor, and return a size of photos and names whose logits are the largest thing there is."""
    predictor = build(name)
    if name != "dense_clip_shapes":
        return predictor, ((48, 80), MANY)
    # its logits are coarse, and small compared with the features: memory is short from there on
    predictor.model.backbone.forward = without_watching(predictor.model.backbone.forward)
    return predictor, ((160, 240), [f"name {number}" for number in range(480)])


def photo(height=48, width=80, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def halvings(predictor):
    return predictor.model._memory_limits()


def assert_equal(actual, expected):
    if hasattr(expected, "label_map"):
        assert np.array_equal(actual.label_map, expected.label_map)
    else:
        assert torch.equal(actual.classes, expected.classes) and len(actual.boxes) > 0
        torch.testing.assert_close(actual.boxes, expected.boxes, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(actual.scores, expected.scores, rtol=1e-4, atol=1e-6)


@pytest.fixture
def log(lines_of):
    return lines_of("openvocab.model")


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("name", [*DENSE, *DETECTORS])
def test_a_head_that_fits_no_longer_gives_the_same_in_pieces(name, error, log):
    predictor, (size, names) = build_short_of_logits(name)
    images = [photo(*size), photo(*size, seed=1)]
    predictor(images[0], names)  # which encodes them
    with Memory() as watch:
        expected = [predictor(image, names) for image in images]
    del log[:]
    with Memory(watch.largest * 2 // 3, error) as memory:
        assert_equal(predictor(images[0], names), expected[0])
        assert memory.failures and halvings(predictor)
        first = memory.failures
        assert_equal(predictor(images[1], names), expected[1])
        assert memory.failures == first, "the second image starts from what the first has taught"
    assert len(log) == 1 and "memory did not suffice" in log[0][1]


@pytest.mark.parametrize("name", [*DENSE, *DETECTORS])
def test_an_error_in_the_head_itself_is_survived(name, log):
    """An allocation that fails only where the whole vocabulary is asked for at once."""
    predictor, image = build(name), photo()
    expected = predictor(image, NAMES)
    del log[:]
    raised = []
    forward = predictor.model.head.forward

    def failing(features, text):
        if len(features.hidden.get(2, features.patch_embed)) > 1 or (name in DENSE and len(text.embed) > 4):
            raised.append(1)
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(features, text)

    predictor.model.head.forward = failing
    for _ in range(2):
        actual = predictor.predict_batch([image, image], NAMES)
        assert_equal(actual[0], expected)
        assert_equal(actual[1], expected)
    assert raised and len(log) == 1
    if name in DETECTORS:
        assert predictor.model.images_at_once.limit == 1 and len(raised) == 1


def test_a_batch_goes_down_to_single_images(log):
    predictor = build("lseg_shapes")
    images = [photo(seed=seed) for seed in range(5)]
    expected = [predictor(image, NAMES) for image in images]
    del log[:]
    forward = predictor.model.backbone.forward

    def small(images, *rest):
        if len(images) > 1:
            raise MemoryError
        return forward(images, *rest)

    predictor.model.backbone.forward = small
    for actual, one in zip(predictor.predict_batch(images, NAMES), expected, strict=True):
        assert_equal(actual, one)
    assert predictor.model.images_at_once.limit == 1 and len(log) == 1 and "1 images" in log[0][1]


@pytest.mark.parametrize("strategy", [SlidingWindow, UnpaddedSlidingWindow])
@pytest.mark.parametrize("name", DENSE)
def test_windows_one_at_a_time(name, strategy):
    if strategy is UnpaddedSlidingWindow and name != "groupvit_shapes":
        pytest.skip("for heads with one output a pixel")
    predictor, image = build(name), photo(100, 150)
    predictor.model.inference = strategy(32, 24, batch_size=6)
    expected = predictor(image, NAMES)
    forward = predictor.model.backbone.forward

    def small(images, *rest):
        if len(images) > 1:
            raise MemoryError
        return forward(images, *rest)

    predictor.model.backbone.forward = small
    assert_equal(predictor(image, NAMES), expected)
    assert predictor.model.inference.windows_at_once.limit == 1


@pytest.mark.parametrize("name", DENSE)
def test_windows_whose_average_fits_no_longer_come_row_by_row(name, log):
    predictor, (size, names) = build_short_of_logits(name)
    image = photo(3 * size[0], size[1])
    predictor.model.inference = SlidingWindow(48, 32, batch_size=6)
    expected = predictor(image, names)
    del log[:]
    with Memory() as watch:
        predictor(image, names)
    with Memory(watch.largest // 2) as memory:
        assert_equal(predictor(image, names), expected)
        first = memory.failures
        assert_equal(predictor(image, names), expected)
        assert 0 < first == memory.failures
    assert len(log) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"spatial_block": dict(kind="depthwise", depth=2)},
        {"spatial_block": dict(kind="bottleneck", depth=1)},
        {"seen_penalty": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("merge", ["mean", "max"])
def test_every_form_of_lseg_reads_the_same_in_parts(changes, merge):
    from openvocab import Vocabulary

    predictor, image = build("lseg_shapes", **changes), photo()
    names = [[name, f"a {name}"] for name in NAMES]
    seen = tuple(index % 2 == 0 for index in range(len(names)))
    vocabulary = Vocabulary(tuple(map(tuple, names)), seen=seen, synonym_merge=merge)
    batch = predictor.model.data_preprocessor({"image": [torch.from_numpy(image).permute(2, 0, 1)], "sample": []})
    with torch.inference_mode():
        features, text = predictor.model.encode(batch["images"]), predictor.model.text_encoder(vocabulary)
        whole = predictor.model.head(features, text)[0]
        (parts,) = predictor.model.head.logit_maps(features, text)
        assert parts.shape == whole.shape
        torch.testing.assert_close(parts.whole(), whole.float(), rtol=1e-5, atol=1e-5)
        some = parts.read(slice(3, 9), slice(5, 31))
        torch.testing.assert_close(some, whole[:, 3:9, 5:31].float(), rtol=1e-5, atol=1e-5)
    expected = predictor(image, vocabulary)
    predictor.model.head.rows_at_once.shrink_to(3)
    assert_equal(predictor(image, vocabulary), expected)


def test_the_background_of_dense_clip_is_raised_in_parts_too():
    from openvocab import Vocabulary

    predictor, image = build("dense_clip_shapes"), photo()
    vocabulary = Vocabulary.from_names([*NAMES, "background"], background="background")
    for threshold in np.linspace(1 / 17, 0.2, 100):
        predictor.model.head.background_threshold = float(threshold)
        expected = predictor(image, vocabulary)
        if 0.1 < (expected.label_map == len(NAMES)).mean() < 0.9:
            break
    else:
        pytest.fail("no threshold separates background from classes")
    predictor.model.head.rows_at_once.shrink_to(2)
    assert_equal(predictor(image, vocabulary), expected)


def test_a_subclass_that_changes_the_logits_is_never_read_in_parts():
    predictor = build("lseg_shapes")
    head = predictor.model.head
    assert head.offers_logit_maps

    class Louder(type(head)):
        def loss(self, features, text, samples):
            return {}

    class Other(type(head)):
        def pixel_logits(self, embed, text):
            return -super().pixel_logits(embed, text)

    head.__class__ = Louder
    assert head.offers_logit_maps
    head.__class__ = Other
    assert not head.offers_logit_maps


@pytest.mark.parametrize("windows, advice", [(False, "type=SlidingWindow"), (True, "model.inference.window")])
def test_where_nothing_is_left_one_line_says_what_to_change(windows, advice):
    predictor, image = build("lseg_shapes"), photo()
    if windows:
        predictor.model.inference = SlidingWindow(32, 24)

    def none_left(*inputs):
        raise MemoryError

    predictor.model.backbone.forward = none_left
    with pytest.raises(NotEnoughMemory, match=f"48x80 pixels.*16 classes.*{advice}.*smaller Resize"):
        predictor(image, NAMES)
    assert not halvings(predictor)


def test_names_are_encoded_in_smaller_blocks():
    predictor, image = build("lseg_shapes"), photo()
    expected = predictor(image, NAMES)
    fresh = build("lseg_shapes")
    encode = fresh.model.text_encoder._encode_names

    def few(names):
        if len(names) > 5:
            raise MemoryError
        return encode(names)

    fresh.model.text_encoder._encode_names = few
    assert_equal(fresh(image, NAMES), expected)
    assert fresh.model.text_encoder.names_at_once.limit == 4
