"""NaN and infinity stop a run before they reach the weights or a file."""

import copy
import math

import pytest
import torch
from mmengine.hooks import Hook
from tiny_run import tiny_config

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.engine.optim_wrapper import SafeOptimWrapper
from openvocab.engine.runner import build_runner
from openvocab.finite_guard import NonFiniteError, check_gradients, check_losses, check_weights


def wrapped(model: torch.nn.Module, **options) -> SafeOptimWrapper:
    return SafeOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), **options)


def test_bad_losses_are_named():
    losses = {"loss_a": torch.tensor(1.0), "loss_b": [torch.tensor(2.0), torch.tensor(math.inf)]}
    with pytest.raises(NonFiniteError, match="loss_b = inf"):
        check_losses(losses)
    check_losses({"loss_a": torch.tensor(1.0), "accuracy": torch.tensor(3)})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("amp", [None, "bf16"])
def test_a_bad_loss_changes_no_weight(value, amp):
    model = torch.nn.Linear(2, 1)
    before = [parameter.clone() for parameter in model.parameters()]
    wrapper = wrapped(model, amp=amp)
    with wrapper.optim_context(model):
        loss = model(torch.ones(1, 2)).sum() * value
    with pytest.raises(NonFiniteError, match="loss"):
        wrapper.update_params(loss)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters()))


def test_a_bad_gradient_of_a_good_loss_changes_no_weight():
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.zero_()
    before = [parameter.clone() for parameter in model.parameters()]
    loss = model.weight.abs().sum().sqrt()  # 0, with an infinite slope
    for clip_grad in (None, {"max_norm": 1.0}):
        with pytest.raises(NonFiniteError, match=r"gradient of 1 of 1 parameters \(shapes \(1, 2\)\)"):
            wrapped(model, clip_grad=clip_grad).update_params(loss.clone())
            model.weight.grad = None
        loss = model.weight.abs().sum().sqrt()
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters()))


def test_large_finite_gradients_pass():
    parameter = torch.nn.Parameter(torch.zeros(10))
    parameter.grad = torch.full((10,), 1e30)  # their squares overflow
    check_gradients([parameter])


def test_weights_with_nan_are_refused_and_masks_with_infinity_are_not():
    model = torch.nn.Linear(2, 2)
    model.register_buffer("mask", torch.full((2,), -math.inf))
    check_weights(model)
    with torch.no_grad():
        model.bias[0] = math.nan
    with pytest.raises(NonFiniteError, match="weights bias"):
        check_weights(model)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_stops_with_step_losses_and_samples(tmp_path, workers):
    runner = build_runner(tiny_config(poison=5, workers=workers), work_dir=tmp_path)
    with pytest.raises(NonFiniteError, match=r"at step \d+: loss_square = nan, loss_fourth = nan.*item-5") as caught:
        runner.train()
    assert "item-5" in caught.value.sample_ids and len(caught.value.sample_ids) == 4
    assert caught.value.step == runner.iter + 1
    assert all(torch.isfinite(parameter).all() for parameter in runner.model.parameters())
    for path in tmp_path.glob("*.pth"):
        weights = load_checkpoint(path)["state_dict"].values()
        assert all(torch.isfinite(value).all() for value in weights)


class Spoil(Hook):
    """Put a NaN where neither loss nor gradient shows it."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 3:
            runner.model.layers[1].running_mean[0] = math.nan


def test_weights_that_went_bad_are_not_saved(tmp_path):
    runner = build_runner(tiny_config(max_iters=4), work_dir=tmp_path)
    runner.register_hook(Spoil())
    with pytest.raises(NonFiniteError, match="weights layers.1.running_mean"):
        runner.train()
    assert not list(tmp_path.glob("*.pth"))


def test_accumulated_gradients_equal_the_joint_batch():
    torch.manual_seed(0)
    data = torch.randn(4, 2)
    results = []
    for parts in (1, 2):
        torch.manual_seed(1)
        model = torch.nn.Linear(2, 1)
        wrapper = wrapped(model, accumulative_counts=parts)
        for part in data.chunk(parts):
            wrapper.update_params(model(part).square().mean())
        results.append(model.weight.detach())
    torch.testing.assert_close(*results)


def test_autocast_follows_amp():
    model = torch.nn.Linear(2, 2)
    for amp, dtype in ((None, torch.float32), ("bf16", torch.bfloat16)):
        with wrapped(model, amp=amp).optim_context(model):
            assert model(torch.ones(1, 2)).dtype is dtype
    with pytest.raises(ValueError, match="amp: expected one of auto, bf16, None, got 'fp16'"):
        wrapped(model, amp="fp16")


def without_recorder(config):
    """Return the config without the hook that wants a loss of every step."""
    config.custom_hooks = [hook for hook in config.custom_hooks if hook["type"] != "RecordLosses"]
    return config


class Watch(Hook):
    """Remember, for each step, whether it was bad and whether it changed a weight or a running mean."""

    def __init__(self):
        self.steps = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.is_bad = "item-5" in [sample.sample_id for sample in data_batch["sample"]]
        self.before = {name: value.clone() for name, value in runner.model.state_dict().items()}
        self.momentum = [dict(state) for state in copy.deepcopy(runner.optim_wrapper.optimizer.state).values()]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        after = runner.model.state_dict()
        same = all(torch.equal(value, after[name]) for name, value in self.before.items())
        now = list(runner.optim_wrapper.optimizer.state.values())
        same = same and all(torch.equal(old["exp_avg"], new["exp_avg"]) for old, new in zip(self.momentum, now))
        self.steps.append((self.is_bad, same))


def test_a_bad_step_is_left_out_entirely_if_asked_to(tmp_path, capfd):
    runner = build_runner(without_recorder(tiny_config(poison=5, nonfinite="skip")), work_dir=tmp_path)
    runner.register_hook(watch := Watch())
    runner.train()
    assert all(is_bad == same for is_bad, same in watch.steps)
    count = sum(is_bad for is_bad, _ in watch.steps)
    assert count >= 2 and runner.train_loop.num_skipped == count
    saved = load_checkpoint(tmp_path / "last.pth")
    assert saved["meta"]["iter"] == 16 and saved["loop"]["skipped"] == count
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())
    lines = [line for line in "".join(capfd.readouterr()).splitlines() if "skipped step" in line]
    assert len(lines) == count and "of at most 10: not finite: loss_square = nan" in lines[0] and "item-5" in lines[0]


def test_left_out_steps_are_counted_over_a_resume_which_is_equal(tmp_path):
    options = dict(poison=5, nonfinite="skip", accumulate=2)
    build_runner(without_recorder(tiny_config(**options)), work_dir=tmp_path / "whole").train()
    stopped = without_recorder(tiny_config(**options, send=dict(moment="after_train_iter", step=7)))
    with pytest.raises(SystemExit):
        build_runner(stopped, work_dir=tmp_path / "parts").train()
    build_runner(without_recorder(tiny_config(**options)), work_dir=tmp_path / "parts", resume=True).train()
    whole, parts = (load_checkpoint(tmp_path / name / "last.pth") for name in ("whole", "parts"))
    assert whole["loop"] == parts["loop"] and whole["loop"]["skipped"] >= 2
    assert all(torch.equal(value, parts["state_dict"][name]) for name, value in whole["state_dict"].items())


def test_too_many_bad_steps_end_the_run(tmp_path):
    runner = build_runner(without_recorder(tiny_config(poison=5, nonfinite="skip", max_skips=1)), work_dir=tmp_path)
    with pytest.raises(NonFiniteError, match="loss_square = nan.*after max_skips=1 steps were skipped"):
        runner.train()
    assert runner.train_loop.num_skipped == 1


@pytest.mark.parametrize("step", [3, 4])
def test_a_bad_gradient_of_a_real_run(tmp_path, step):
    hooks = [dict(type="BreakGradient", step=step)]
    with pytest.raises(NonFiniteError, match=rf"at step {step}: gradient of 1 of 6.*samples: item-"):
        build_runner(tiny_config(hooks=hooks), work_dir=tmp_path / "raise").train()
    assert not list((tmp_path / "raise").glob("*.pth"))
    config = without_recorder(tiny_config(hooks=hooks, nonfinite="skip"))
    build_runner(config, work_dir=tmp_path / "skip").train()
    saved = load_checkpoint(tmp_path / "skip" / "last.pth")
    assert saved["loop"]["skipped"] == 1
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())


def test_other_policies_are_refused(tmp_path):
    with pytest.raises(ValueError, match="nonfinite: expected one of raise, skip, got 'rollback'"):
        build_runner(tiny_config(nonfinite="rollback"), work_dir=tmp_path).train()
