import logging

import pytest
import torch
from mmengine.config import Config
from two_ranks import run_two_ranks

from openvocab.engine import precision
from openvocab.engine.own_process import own_process
from openvocab.engine.precision import Timing, medium_error, medium_timing, use_fast_matmul


@pytest.mark.parametrize("wanted", ["highest", "medium"])
def test_explicit_choice_is_set(wanted):
    assert use_fast_matmul(wanted) == wanted
    assert torch.get_float32_matmul_precision() == wanted


def pretend(monkeypatch, error, time_ratio):
    monkeypatch.setattr(precision, "medium_error", lambda device: error)
    monkeypatch.setattr(precision, "medium_timing", lambda device: Timing(300.0, 300.0 / time_ratio, time_ratio))


@pytest.mark.parametrize(
    ("error", "time_ratio", "chosen"),
    [
        (5e-7, 0.5, "medium"),
        (5e-7, 0.99, "highest"),  # within the margin: not worth a choice that noise makes
        (5e-7, 1.25, "highest"),
        (3e-4, 0.1, "highest"),
        (3e-3, 0.1, "highest"),
    ],
)
def test_auto_takes_medium_only_where_it_is_exact_and_faster(monkeypatch, error, time_ratio, chosen):
    pretend(monkeypatch, error, time_ratio)
    assert use_fast_matmul("auto") == chosen
    assert torch.get_float32_matmul_precision() == chosen


@pytest.mark.parametrize("kept", ["highest", "medium"])
def test_a_resumed_run_keeps_what_it_began_with(monkeypatch, kept):
    pretend(monkeypatch, 5e-7, 0.5 if kept == "highest" else 2.0)
    assert use_fast_matmul("auto", keep=kept) == kept
    assert torch.get_float32_matmul_precision() == kept


def test_what_the_config_asks_for_goes_before_what_the_run_began_with():
    assert use_fast_matmul("highest", keep="medium") == "highest"


def test_choice_is_logged_with_both_speeds(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, "openvocab")
    pretend(monkeypatch, 5e-7, 1.25)
    use_fast_matmul("auto")
    assert caplog.messages == [
        "float32 matrix products: highest (error of medium on cpu 5.0e-07, 300 GFLOP/s in highest, 240 in medium, "
        "blocks take 1.25 of the time)"
    ]


def test_probes_leave_settings_and_random_numbers_alone():
    torch.set_float32_matmul_precision("high")
    medium_error.cache_clear(), medium_timing.cache_clear()
    state = torch.get_rng_state()
    error, timing = medium_error("cpu"), medium_timing("cpu")
    assert torch.get_float32_matmul_precision() == "high" and torch.get_rng_state().equal(state)
    assert 0 < error < 1e-2 and min(timing.highest, timing.medium, timing.time_ratio) > 0


@pytest.mark.parametrize(
    ("highest", "medium", "rounds"), [(0.001, 0.0008, 5), (0.02, 0.016, 3), (0.5, 0.4, 3), (0.001, 0.002, 2)]
)
def test_slow_and_hopeless_work_is_timed_in_fewer_rounds(monkeypatch, highest, medium, rounds):
    clock, made = [0.0], []

    def seconds(part, device):
        made.append(torch.get_float32_matmul_precision())
        clock[0] += 2 * (medium if made[-1] == "medium" else highest)
        return medium if made[-1] == "medium" else highest

    monkeypatch.setattr(precision, "_seconds", seconds)
    monkeypatch.setattr(precision, "perf_counter", lambda: clock[0])
    work = precision._Workload.of("cpu", batch=1, tokens=4, width=64, heads=1)
    assert precision._best_times(work) == {"highest": (highest,) * 2, "medium": (medium,) * 2}
    assert made.count("medium") == made.count("highest") == 2 * rounds


def test_the_error_tells_rounding_from_truncation():
    a, b = torch.randn(64, 1024), torch.randn(1024, 64)
    exact = a.double() @ b.double()
    rounded = a.bfloat16().double() @ b.bfloat16().double()
    assert (rounded - exact).norm() / exact.norm() > 100 * precision.TOLERANCE


def test_unknown_word_is_refused():
    with pytest.raises(ValueError, match="precision: expected one of auto, highest, medium"):
        use_fast_matmul("fast")
    with pytest.raises(ValueError, match="keep: expected one of highest, medium"):
        use_fast_matmul("auto", keep="auto")


def choose_by_rank(rank: int) -> str:
    """Return the path of products of a rank, where rank 0 finds medium to be slower and rank 1 to be faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "medium_error", lambda device: 0.0)
        patch.setattr(precision, "medium_timing", lambda device: Timing(1.0, 1.0, (1.1, 0.5)[rank]))
        own_process(Config())
        return torch.get_float32_matmul_precision()


def test_all_ranks_take_the_path_of_the_first():
    assert run_two_ranks(choose_by_rank) == ["highest", "highest"]
