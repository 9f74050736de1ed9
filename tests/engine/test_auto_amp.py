"""amp="auto": the faster precision of this machine, and for the whole of a run the one it began in."""

import pytest
import torch
from bfloat16_figures import FAST, SLOW, pretend
from test_resume import assert_same_run
from tiny_run import tiny_config
from two_ranks import run_two_ranks

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.engine.optim_wrapper import SafeOptimWrapper
from openvocab.engine.runner import build_runner


def wrapped(model, **options) -> SafeOptimWrapper:
    return SafeOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), **options)


@pytest.fixture
def lines(lines_of) -> list[tuple[int, str]]:
    """What the optimizer wrapper logs."""
    return lines_of("openvocab.engine.optim_wrapper")


@pytest.mark.parametrize(("gain", "dtype"), [(FAST, torch.bfloat16), (SLOW, torch.float32)])
def test_auto_computes_in_what_is_faster_here(monkeypatch, lines, gain, dtype):
    pretend(monkeypatch, gain)
    model = torch.nn.Linear(2, 2)
    wrapper = wrapped(model, amp="auto")
    assert wrapper.compute_dtype is None
    for _ in range(2):
        with wrapper.optim_context(model):
            assert model(torch.ones(1, 2)).dtype is dtype
    assert f"torch.{wrapper.compute_dtype}" == str(dtype)
    assert [line for _, line in lines] == [f"training computes in {wrapper.compute_dtype} ({gain} on cpu)"]


def train(work_dir, amp=None, resume=False, **options) -> None:
    config = tiny_config(**options)
    config.optim_wrapper.amp = "auto"
    build_runner(config, work_dir=work_dir, amp=amp, resume=resume).train()


@pytest.mark.parametrize(("begun", "now", "dtype"), [(FAST, SLOW, "bfloat16"), (SLOW, FAST, "float32")])
def test_a_run_goes_on_elsewhere_in_the_precision_it_began_in(tmp_path, monkeypatch, lines, begun, now, dtype):
    pretend(monkeypatch, begun)
    for name in ("whole", "parts"):
        train(tmp_path / name)
    for later in ("iter_16.pth", "last.pth"):
        (tmp_path / "parts" / later).unlink()
    pretend(monkeypatch, now)
    train(tmp_path / "parts", resume=True)
    other = "float32" if dtype == "bfloat16" else "bfloat16"
    assert [line for _, line in lines[-1:]] == [
        f"training computes in {dtype} (as this run began; this machine would choose {other}: {now} on cpu)"
    ]
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert load_checkpoint(tmp_path / "parts" / "last.pth")["meta"]["compute_dtype"] == dtype


def test_what_a_resumed_run_saves_before_its_first_step_names_its_precision(tmp_path, monkeypatch):
    pretend(monkeypatch, FAST)
    with pytest.raises(SystemExit):
        train(tmp_path, max_iters=13, interval=12, send=dict(moment="before_val", step=12))
    pretend(monkeypatch, SLOW)
    train(tmp_path, resume=True, max_iters=13, interval=12)  # validates and saves step 12 before it trains
    assert load_checkpoint(tmp_path / "iter_12.pth")["meta"]["compute_dtype"] == "bfloat16"


def test_a_precision_that_is_forced_wins_over_the_one_a_run_began_in(tmp_path, monkeypatch, lines):
    pretend(monkeypatch, FAST)
    train(tmp_path, max_iters=4)
    lines.clear()
    train(tmp_path, amp="off", resume=True, max_iters=8)
    assert (
        lines[-1][1] == "this run began in bfloat16 and continues in float32, as set: not equal to an uninterrupted run"
    )
    assert load_checkpoint(tmp_path / "last.pth")["meta"]["compute_dtype"] == "float32"


def test_the_probe_changes_no_random_number_of_a_run(tmp_path, monkeypatch):
    train(tmp_path / "probed", max_iters=4)  # by the real probe, whatever it finds
    dtype = load_checkpoint(tmp_path / "probed" / "last.pth")["meta"]["compute_dtype"]
    train(tmp_path / "forced", amp="bf16" if dtype == "bfloat16" else "off", max_iters=4)
    assert_same_run(tmp_path / "probed", tmp_path / "forced")


@pytest.mark.parametrize("amp", ["fp16", True])
def test_another_word_is_refused(tmp_path, amp):
    with pytest.raises(ValueError, match="amp: expected one of auto, bf16, off"):
        train(tmp_path, amp=amp)


def choose_by_rank(rank: int) -> str:
    """Return what a rank trains in, where the probe of rank 0 says bfloat16 and that of rank 1 float32."""
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch, (FAST, SLOW)[rank])
        model = torch.nn.Linear(2, 2)
        wrapper = wrapped(model, amp="auto")
        with wrapper.optim_context(model):
            return wrapper.compute_dtype


def test_all_ranks_take_the_choice_of_the_first():
    assert run_two_ranks(choose_by_rank) == ["bfloat16", "bfloat16"]
