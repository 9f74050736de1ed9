"""Building a run from a config, its schedules and files, and one clear line for each mistake."""

import json

import numpy as np
import pytest
import torch
from config_parts import REPOSITORY
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_run import tiny_config
from torch import nn

from openvocab.checkpoint.checkpoint import SaveFailed, load_checkpoint
from openvocab.checkpoint.start_weights import reads_start_weights
from openvocab.command_line import one_line_errors
from openvocab.config.config import ConfigError
from openvocab.engine.hooks import CheckpointHook
from openvocab.engine.optim_wrapper import GroupedOptimConstructor
from openvocab.engine.runner import build_runner
from openvocab.evaluation import OtherVocabulary, match_names, write_results
from openvocab.finite_guard import NonFiniteError
from openvocab.registry import HOOKS, LOOPS, MODELS
from openvocab.structures import Sample
from openvocab.vocabulary.vocabulary import Vocabulary

SCHEDULES = sorted((REPOSITORY / "configs" / "_base_" / "schedules").glob("*.py"))


def trained(work_dir, **options):
    runner = build_runner(tiny_config(**options), work_dir=work_dir)
    runner.train()
    return runner


def test_a_run_leaves_stable_names(tmp_path):
    runner = trained(tmp_path)
    names = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert names == ["best.pth", "iter_12.pth", "iter_16.pth", "last.pth"]
    last, best = load_checkpoint(tmp_path / "last.pth"), load_checkpoint(tmp_path / "best.pth")
    assert last["meta"]["iter"] == 16 and best["meta"]["iter"] in (6, 12, 16)
    scores = runner.message_hub.get_scalar("val/mIoU").data[0]
    assert best["best_score"] == max(scores)
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, last["state_dict"][name])


def test_best_holds_the_averaged_weights_where_there_are_some(tmp_path):
    runner = trained(tmp_path, ema=True, max_iters=6)
    averaged = next(hook for hook in runner.hooks if type(hook).__name__ == "EMAHook").ema_model.module.state_dict()
    saved = load_checkpoint(tmp_path / "best.pth")
    for name, _ in runner.model.named_parameters():
        assert torch.equal(saved["state_dict"][name], averaged[name])
        assert torch.equal(saved["ema_state_dict"][f"module.{name}"], runner.model.state_dict()[name])


@pytest.mark.parametrize("checkpoint", [None, "some.pth"])
def test_start_weights_are_read_unless_a_checkpoint_is_tested(tmp_path, monkeypatch, checkpoint):
    reads = []
    build_model = Runner.build_model
    monkeypatch.setattr(
        Runner, "build_model", lambda self, model: reads.append(reads_start_weights()) or build_model(self, model)
    )
    build_runner(tiny_config(), work_dir=tmp_path, checkpoint=checkpoint, training=False)
    build_runner(tiny_config(), work_dir=tmp_path, checkpoint=checkpoint)  # a resume may find nothing
    assert reads == [checkpoint is None, True]


def test_ranks_pass_detections_through_the_work_dir_unless_told_otherwise(tmp_path):
    config = tiny_config()
    config.test_evaluator = [
        dict(type="CocoAveragePrecision"),
        dict(type="CocoAveragePrecision", shard_folder="/other"),
    ]
    runner = build_runner(config, work_dir=tmp_path, training=False)
    metrics = runner.build_evaluator(config.test_evaluator).metrics
    assert [metric.shard_folder for metric in metrics] == [str(tmp_path), "/other"]


def test_testing_the_best_gives_its_score(tmp_path):
    trained(tmp_path, ema=True)
    saved = load_checkpoint(tmp_path / "best.pth")
    runner = build_runner(tiny_config(ema=True), work_dir=tmp_path, checkpoint=tmp_path / "best.pth", training=False)
    assert runner._train_loop is None
    assert runner.test()["mIoU"] == pytest.approx(saved["best_score"], rel=0.5)  # its data are random


def parameter_groups(work_dir, frozen=(), **paramwise) -> dict[tuple[float, float], set[str]]:
    """Return {(rate, decay): names} of the tiny model: 0 linear, 1 batch norm, 3 linear."""
    config = tiny_config(max_iters=4)
    config.optim_wrapper.paramwise_cfg = paramwise
    runner = build_runner(config, work_dir=work_dir)
    names = {id(parameter): name.removeprefix("layers.") for name, parameter in runner.model.named_parameters()}
    for name in frozen:
        runner.model.layers.get_parameter(name).requires_grad_(False)
    groups = runner.build_optim_wrapper(runner.optim_wrapper).optimizer.param_groups
    return {(g["lr"], g["weight_decay"]): {names[id(p)] for p in g["params"]} for g in groups}


def test_equal_settings_share_a_parameter_group(tmp_path):
    found = parameter_groups(
        tmp_path, ["0.bias"], norm_decay_mult=0.0, bias_decay_mult=0.5, custom_keys={"layers.3": dict(lr_mult=10.0)}
    )
    assert found == {
        (0.01, 0.01): {"0.weight"},
        (0.01, 0.0): {"1.weight", "1.bias"},
        (0.1, 0.01): {"3.weight"},
        (0.1, 0.005): {"3.bias"},
    }


def test_norms_below_a_custom_key_keep_their_own_decay(tmp_path):
    keys = {"layers": dict(lr_mult=0.1), "layers.3": dict(lr_mult=1.0, decay_mult=2.0)}
    assert parameter_groups(tmp_path, norm_decay_mult=0.0, custom_keys=keys) == {
        (0.001, 0.01): {"0.weight", "0.bias"},
        (0.001, 0.0): {"1.weight", "1.bias"},
        (0.01, 0.02): {"3.weight", "3.bias"},
    }


def test_frozen_parameters_are_left_out_where_all_settings_are_equal_too(tmp_path):
    groups = parameter_groups(tmp_path, ["0.weight", "1.bias"])
    assert groups == {(0.01, 0.01): {"0.bias", "1.weight", "3.weight", "3.bias"}}


def test_flat_parameters_that_are_no_norm_and_no_bias_have_a_decay_of_their_own():
    module = nn.Module()
    module.scale, module.temperature = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(()))
    module.in_proj_bias, module.norm = nn.Parameter(torch.ones(3)), nn.LayerNorm(3)
    settings = dict(optimizer=dict(type="SGD", lr=1.0, weight_decay=1.0))
    decays = dict(flat_decay_mult=0.5, bias_decay_mult=0.25, norm_decay_mult=0.0)
    groups = GroupedOptimConstructor(settings, decays)(module).optimizer.param_groups
    assert {group["weight_decay"]: len(group["params"]) for group in groups} == {0.5: 1, 1.0: 1, 0.25: 1, 0.0: 2}


def test_factors_of_all_matching_names_are_multiplied_with_what_a_part_has(tmp_path):
    keys, factors = (
        {"layers.3": dict(lr_mult=0.1)},
        {"bias": dict(lr_mult=2.0, decay_mult=0.0), "1.": dict(lr_mult=5.0)},
    )
    assert parameter_groups(tmp_path, custom_keys=keys, factors=factors) == {
        (0.01, 0.01): {"0.weight"},
        (0.02, 0.0): {"0.bias"},
        (0.05, 0.01): {"1.weight"},
        (0.1, 0.0): {"1.bias"},
        (0.001, 0.01): {"3.weight"},
        (0.002, 0.0): {"3.bias"},
    }


def test_unknown_paramwise_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"paramwise_cfg.factors\['bias'\]: unknown \['lr'\]"):
        parameter_groups(tmp_path, factors={"bias": dict(lr=2.0)})
    with pytest.raises(ValueError, match=r"paramwise_cfg: unknown \['nrom_decay_mult'\]"):
        parameter_groups(tmp_path, nrom_decay_mult=0.0)


@pytest.mark.parametrize("path", SCHEDULES, ids=lambda path: path.stem)
def test_schedules_rise_to_the_rate_and_fall_to_nothing(path, tmp_path):
    schedule, config = Config.fromfile(path), tiny_config()
    config.optim_wrapper = schedule.optim_wrapper
    config.optim_wrapper.clip_grad = dict(max_norm=1.0)  # these are rates of large models
    config.train_cfg = dict(type="TrainLoop", max_iters=60, val_interval=1000)
    for part in schedule.param_scheduler:  # the same curve in 60 steps
        for name in {"begin", "end"} & set(part):
            part[name] = part[name] and max(4, part[name] * 60 // schedule.max_iters)
        if "milestones" in part:
            part.milestones = [step * 60 // schedule.max_iters for step in part.milestones]
    config.param_scheduler = schedule.param_scheduler
    runner = build_runner(config, work_dir=tmp_path)
    runner.train()
    rates = runner.message_hub.get_scalar("train/lr").data[0]
    assert max(rates) == pytest.approx(schedule.optim_wrapper.optimizer.lr)
    assert rates[-1] < 0.1 * max(rates)
    if len(schedule.param_scheduler) == 2:
        assert rates[0] < rates[1] < rates[2] < rates[3]


def test_a_save_that_fails_is_a_warning_until_the_last(tmp_path, monkeypatch):
    saved = []

    def fail_once(content, path):
        saved.append(path.name)
        if len(saved) != 2:
            raise SaveFailed(f"cannot write {path}: disk full")
        path.touch()

    monkeypatch.setattr("openvocab.engine.hooks.checkpoint_hook.save_checkpoint", fail_once)
    with pytest.raises(SaveFailed, match="iter_16.pth: disk full"):
        trained(tmp_path)
    assert saved[0] == "iter_4.pth" and saved[-1] == "iter_16.pth"


def test_mmengine_names_lead_to_ours():
    assert HOOKS.get("CheckpointHook") is CheckpointHook
    assert LOOPS.get("TrainLoop").__module__.startswith("openvocab")


def test_a_registry_miss_suggests_a_name():
    with pytest.raises(KeyError, match="unknown model 'OpenVocabModl'; did you mean 'OpenVocabModel'"):
        MODELS.get("OpenVocabModl")


def test_an_unwritable_work_dir_is_found_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write to the work dir"):
        build_runner(tiny_config(), work_dir=tmp_path / "file" / "run")


def test_the_launcher_needs_torchrun(tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(ConfigError, match="torchrun"):
        build_runner(tiny_config(), work_dir=tmp_path, launcher="pytorch")


def test_more_ranks_than_gpus_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="--nproc_per_node: .* expected at most 2"):
        build_runner(tiny_config(), work_dir=tmp_path, launcher="pytorch")


@pytest.mark.parametrize(
    ("error", "line", "status"),
    [
        (ValueError("two\n  lines"), "error: two lines (", 2),
        (KeyError("unknown head 'x'"), "error: unknown head 'x' (", 2),
        (FileNotFoundError("no such config: x.py"), "error: no such config: x.py (", 2),
        (NonFiniteError("loss = nan", 3, ["a"]), "error: not finite at step 3: loss = nan; samples: a.", 1),
        (SaveFailed("disk full"), "error: disk full (", 1),
        (
            ValueError(
                "Caught BadSample in DataLoader worker process 0.\nOriginal Traceback:\n x\n"
                "openvocab.BadSample: a.jpg: cut off\n"
            ),
            "error: a.jpg: cut off (",
            2,
        ),
    ],
)
def test_expected_errors_are_one_line(capsys, monkeypatch, error, line, status):
    monkeypatch.delenv("OPENVOCAB_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as caught, one_line_errors():
        raise error
    assert caught.value.code == status
    written = capsys.readouterr().err
    assert written.startswith(line) and written.count("\n") == 1


def test_unexpected_errors_and_the_traceback_option_pass(monkeypatch):
    with pytest.raises(ZeroDivisionError), one_line_errors():
        1 / 0  # noqa: B018
    monkeypatch.setenv("OPENVOCAB_TRACEBACK", "1")
    with pytest.raises(ValueError), one_line_errors():
        raise ValueError


def test_results_are_flat_json(tmp_path):
    numbers = {"mIoU": np.float64(41.5), "mIoU_unseen": float("nan")}
    rows = [{"class": "cat", "IoU": float("nan"), "pixels": 7, "role": None}]
    write_results(tmp_path / "new" / "m.json", numbers, {"images": 3}, rows)
    assert json.loads((tmp_path / "new" / "m.json").read_text()) == {
        "mIoU": 41.5,
        "mIoU_unseen": None,
        "per_class": [{"class": "cat", "IoU": None, "pixels": 7, "role": None}],
        "protocol": {"images": 3},
    }
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m.json"]


def test_other_names_take_flags_from_their_matches():
    source = Vocabulary.from_names(["background", ["sofa", "couch"], "cat"], unseen=["cat"], background="background")
    vocabulary, new_class = match_names(source, [["dog"], ["Couch "], ["cat"]])
    assert new_class == [None, 1, 2]
    assert vocabulary.seen == (True, True, False) and vocabulary.background is None


def test_other_vocabulary_ignores_labels_without_a_match(tmp_path):
    class Two(torch.utils.data.Dataset):
        vocabulary = Vocabulary.from_names(["cat", "dog"])

        def __len__(self):
            return 1

        def __getitem__(self, index):
            label_map = torch.tensor([[0, 1, 255]], dtype=torch.uint8)
            return {"sample": Sample("a", self.vocabulary, (1, 3), (1, 3), label_map=label_map)}

    (tmp_path / "names.txt").write_text("bird\ndog\n")
    sample = OtherVocabulary(Two(), str(tmp_path / "names.txt"))[0]["sample"]
    assert sample.vocabulary.class_names == ("bird", "dog")
    assert sample.label_map.tolist() == [[255, 1, 255]] and sample.label_map.dtype is torch.uint8
