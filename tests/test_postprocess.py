import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from openvocab.drawing.class_figures import describe_areas
from openvocab.drawing.visualization import draw_comparison
from openvocab.ops import label_upsampling
from openvocab.ops.label_upsampling import AxisSampling, sampling_positions
from openvocab.postprocess import label_map_from_logits, semantic_prediction, semantic_predictions
from openvocab.structures import Sample, ignore_index
from openvocab.vocabulary.vocabulary import Vocabulary


def random_field(num_classes, size):
    return torch.randn(num_classes, *size, generator=torch.Generator().manual_seed(num_classes))


def smooth_field(num_classes, size):
    return 10 * F.interpolate(random_field(num_classes, (3, 4))[None], size=size, mode="bicubic")[0]


def near_ties(num_classes, size):
    """The worst case for pruning: every class reaches the best one somewhere."""
    return 1 + 1e-3 * random_field(num_classes, size)


def upsampled(logits, size, align_corners=False):
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=align_corners)[0]


def assert_wins(labels, full):
    """The chosen class has the largest value at its pixel, up to float rounding."""
    chosen = full.gather(0, labels.long()[None])[0]
    assert (full.amax(0) - chosen).max() <= 1e-5 * full.abs().max()


@pytest.mark.parametrize("field", [random_field, smooth_field, near_ties])
@pytest.mark.parametrize("num_classes", [1, 2, 150, 847, 1203])
def test_labels_are_those_of_upsampling_and_argmax(field, num_classes):
    logits = field(num_classes, (6, 8))
    for align_corners in (False, True):
        full = upsampled(logits, (96, 128), align_corners)
        labels = label_map_from_logits(logits, (96, 128), align_corners=align_corners)
        assert_wins(labels, full)
        assert (labels.long() != full.argmax(0)).float().mean() <= 1e-3


@pytest.mark.parametrize("grid", [(1, 1), (1, 7), (5, 1), (17, 23), (40, 40)])
@pytest.mark.parametrize("size", [(1, 1), (10, 10), (40, 40), (55, 301)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_any_ratio_of_grid_and_output(grid, size, align_corners):
    logits = random_field(20, grid)
    labels = label_map_from_logits(logits, size, align_corners=align_corners)
    assert labels.shape == size
    assert_wins(labels, upsampled(logits, size, align_corners))


@pytest.mark.parametrize("overhead", [-1e9, 1e9])
def test_sparse_and_dense_comparison_agree_with_the_reference(monkeypatch, overhead):
    monkeypatch.setattr(label_upsampling, "PAIR_OVERHEAD", overhead)
    logits = smooth_field(60, (9, 11))
    assert_wins(label_map_from_logits(logits, (50, 90)), upsampled(logits, (50, 90)))


def test_strips_do_not_show(monkeypatch):
    logits = smooth_field(30, (16, 16))
    whole = label_map_from_logits(logits, (128, 128))
    monkeypatch.setattr(label_upsampling, "STRIP_ELEMENTS", {"cpu": 1, "cuda": 1})
    assert label_map_from_logits(logits, (128, 128)).equal(whole)


def test_equal_classes_go_to_the_lower_one():
    logits = smooth_field(5, (4, 4))
    labels = label_map_from_logits(torch.cat([logits, logits]), (32, 32))
    assert labels.max() < 5


@pytest.mark.parametrize("num_classes, dtype", [(255, torch.uint8), (256, torch.int16), (32768, torch.int32)])
def test_narrowest_label_type(num_classes, dtype):
    logits = torch.zeros(num_classes, 2, 2)
    logits[-1] = 1
    labels = label_map_from_logits(logits, (4, 4))
    assert labels.dtype == dtype and (labels == num_classes - 1).all()


def test_labels_do_not_change_with_temperature_or_half_precision_input():
    logits = smooth_field(12, (8, 8)).bfloat16()
    assert label_map_from_logits(logits, (64, 64)).equal(label_map_from_logits(7 * logits.float(), (64, 64)))


def test_padding_is_cut_off():
    logits = random_field(9, (8, 10))
    labels = label_map_from_logits(logits, (50, 70), input_size=(50, 70), padded_size=(64, 80))
    assert_wins(labels, upsampled(logits, (64, 80))[:, :50, :70])


@pytest.mark.parametrize("align_corners", [False, True])
def test_one_sampling_from_the_grid_to_the_original_frame(align_corners):
    """A linear function of the position stays exact under any number of bilinear steps, away from the borders."""
    columns = torch.arange(20.0)
    logits = torch.stack([columns - 7.3, torch.zeros(20)])[:, None].expand(2, 6, 20)
    labels = label_map_from_logits(
        logits, (30, 250), input_size=(48, 140), padded_size=(48, 160), align_corners=align_corners
    )
    positions = sampling_positions(250, 140, 160, 20, align_corners, torch.device("cpu"))
    if align_corners:
        assert torch.allclose(positions, torch.linspace(0, 139 / 159 * 19, 250, dtype=torch.float64))
    else:
        assert torch.allclose(positions, (torch.arange(250) + 0.5).double() * (140 / 250 / 8) - 0.5)
    assert labels[0].long().equal((positions < 7.3).long())


def test_cells_hold_every_position_once():
    positions = sampling_positions(31, 31, 40, 7, False, torch.device("cpu"))
    cells = AxisSampling.between(positions, 7)
    assert cells.valid.sum() == 31
    first = torch.arange(len(cells.fraction))[:, None] + int(positions[0].floor())
    assert torch.allclose((first + cells.fraction)[cells.valid].double(), positions, atol=1e-6)


@pytest.mark.parametrize(
    "logits, sizes, message",
    [
        (torch.zeros(3, 4), {}, "expected floating-point logits"),
        (torch.zeros(0, 4, 4), {}, "expected floating-point logits"),
        (torch.zeros(3, 4, 4, dtype=torch.long), {}, "expected floating-point logits"),
        (torch.full((3, 4, 4), torch.nan), {}, "not finite"),
        (torch.full((3, 4, 4), torch.inf), {}, "not finite"),
        (torch.zeros(3, 4, 4), {"input_size": (9, 9), "padded_size": (8, 8)}, "sizes do not fit"),
    ],
)
def test_wrong_inputs_are_refused(logits, sizes, message):
    with pytest.raises(ValueError, match=message):
        label_map_from_logits(logits, (8, 8), **sizes)


def sample(vocabulary, original_size, input_size, padded_size):
    return Sample("photo", vocabulary, original_size, input_size, padded_size)


def test_predictions_lie_in_the_original_frame():
    vocabulary = Vocabulary.from_names(["a", "b", "c"])
    logits = random_field(6, (8, 8)).view(2, 3, 8, 8)
    samples = [sample(vocabulary, (64, 50), (64, 50), (64, 64)), sample(vocabulary, (100, 31), (60, 64), (64, 64))]
    predictions = semantic_predictions(logits, samples)
    assert [p.label_map.shape for p in predictions] == [(64, 50), (100, 31)]
    assert predictions[0].label_map.dtype == np.uint8 and predictions[0].class_names == ("a", "b", "c")
    naive = upsampled(logits[0], (64, 64))[:, :, :50].argmax(0)
    assert (predictions[0].label_map == naive.numpy()).all()


def test_wide_vocabularies_give_uint16():
    vocabulary = Vocabulary.from_names([f"name {i}" for i in range(300)])
    (prediction,) = semantic_predictions(random_field(300, (2, 2))[None], [sample(vocabulary, (8, 8), (8, 8), (8, 8))])
    assert prediction.label_map.dtype == np.uint16


@pytest.mark.parametrize("num_classes, dtype", [(65535, np.uint16), (65536, np.uint16), (70000, np.uint32)])
def test_vocabularies_of_any_size_keep_their_last_class(num_classes, dtype):
    vocabulary = Vocabulary.from_names([f"name {i}" for i in range(num_classes)])
    logits = torch.zeros(1, num_classes, 1, 2)
    logits[0, num_classes - 1, 0, 0] = logits[0, 5, 0, 1] = 1
    (prediction,) = semantic_predictions(logits, [sample(vocabulary, (1, 2), (1, 2), (1, 2))])
    assert prediction.label_map.dtype == dtype and prediction.label_map.tolist() == [[num_classes - 1, 5]]
    assert ignore_index(num_classes) >= num_classes
    assert describe_areas(prediction) == f"name 5 50.0 %, name {num_classes - 1} 50.0 %"
    truth = np.array([[ignore_index(num_classes), 5]], dtype=np.int32)
    picture = draw_comparison(np.zeros((1, 2, 3), np.uint8), prediction, truth)
    assert picture.dtype == np.uint8 and picture.any()


@pytest.mark.parametrize("num_classes", [2, 255, 256, 65_536, 65_537])
def test_label_maps_of_any_type_become_the_same_prediction(num_classes):
    sample = Sample("a", Vocabulary.from_names([f"name {i}" for i in range(num_classes)]), (1, 2), (1, 2))
    expected = np.uint8 if num_classes <= 255 else np.uint16 if num_classes <= 65_536 else np.uint32
    for dtype in (torch.int32, torch.int64):
        label_map = semantic_prediction(torch.tensor([[0, num_classes - 1]], dtype=dtype), sample).label_map
        assert label_map.dtype == expected and label_map.tolist() == [[0, num_classes - 1]]


def test_other_vocabularies_than_the_logits_are_refused():
    few = Vocabulary.from_names(["a", "b"])
    with pytest.raises(ValueError, match="3 logits per pixel, but sample 'photo' has a vocabulary of 2 classes"):
        semantic_predictions(torch.zeros(1, 3, 4, 4), [sample(few, (8, 8), (8, 8), (8, 8))])
    with pytest.raises(ValueError, match="1 samples"):
        semantic_predictions(torch.zeros(2, 2, 4, 4), [sample(few, (8, 8), (8, 8), (8, 8))])


class LargestTensor(TorchDispatchMode):
    """Watch every tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("field", [smooth_field, near_ties])
def test_no_map_of_all_classes_at_full_size_is_made(field):
    logits = field(1203, (16, 32))
    with LargestTensor() as watch:
        label_map_from_logits(logits, (256, 512))
    assert 0 < watch.elements <= 0.03 * 1203 * 256 * 512
