import pytest
import torch

from openvocab.engine import precision
from openvocab.engine.precision import medium_error, use_fast_matmul


@pytest.mark.parametrize("wanted", ["highest", "medium"])
def test_explicit_choice_is_set(wanted):
    assert use_fast_matmul(wanted) == wanted
    assert torch.get_float32_matmul_precision() == wanted


@pytest.mark.parametrize(("error", "chosen"), [(5e-7, "medium"), (3e-4, "highest"), (3e-3, "highest")])
def test_auto_takes_medium_only_at_float32_rounding(monkeypatch, error, chosen):
    monkeypatch.setattr(precision, "medium_error", lambda device: error)
    assert use_fast_matmul("auto") == chosen
    assert torch.get_float32_matmul_precision() == chosen


def test_choice_is_logged_with_its_reason(logged):
    use_fast_matmul("auto")
    assert len(logged) == 1 and "error of medium on cpu" in logged[0].getMessage()


def test_probe_leaves_the_setting_alone_and_tells_rounding_from_truncation():
    torch.set_float32_matmul_precision("high")
    medium_error.cache_clear()
    error = medium_error("cpu")
    assert torch.get_float32_matmul_precision() == "high"
    assert 0 < error < 1e-2
    a, b = torch.randn(64, 1024), torch.randn(1024, 64)
    exact = a.double() @ b.double()
    rounded = a.bfloat16().double() @ b.bfloat16().double()
    assert (rounded - exact).norm() / exact.norm() > 100 * precision.TOLERANCE


def test_unknown_word_is_refused():
    with pytest.raises(ValueError, match="'auto', 'highest' or 'medium'"):
        use_fast_matmul("fast")
