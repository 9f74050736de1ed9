"""Configs that claim an official recipe: their numbers, as the official code comes by them."""

import pytest
import torch
from config_parts import REPOSITORY, without_weights
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import nn

from openvocab.config.config import read_config
from openvocab.engine.run_config import complete_training
from openvocab.engine.unshifted_cosine import UnshiftedCosineLR
from openvocab.registry import MODELS, PARAM_SCHEDULERS

PAIRS = {"cc3m": 2_891_445, "cc12m": 11_156_203, "yfcc14m": 14_615_499, "redcaps12m": 11_866_987}
GROUPVIT = {"groupvit_cc3m-cc12m-yfcc14m": "yfcc14m", "groupvit_cc3m-cc12m-redcaps12m": "redcaps12m"}


def config_of(name: str, **options):
    init_default_scope("openvocab")
    return read_config(REPOSITORY / "configs" / f"{name}.py", options)


def groups_of(config) -> dict[str, dict]:
    """Return the settings of the optimizer for each parameter of a config's model, by name."""
    with torch.device("meta"):
        model = MODELS.build(without_weights(config.model.to_dict()))
    complete_training(config)
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: group for group in optimizer.param_groups for parameter in group["params"]}


@pytest.mark.parametrize("name", GROUPVIT)
def test_groupvit_decays_what_has_two_dimensions_or_none(name):
    config = config_of(name)
    groups = groups_of(config)
    for parameter, group in groups.items():
        one_dimension = group["params"][0].ndim == 1
        assert group["weight_decay"] == (0.0 if one_dimension or parameter.endswith(".bias") else 0.05), parameter
    temperatures = {parameter for parameter in groups if parameter.endswith("logit_scale")}
    multi_label = {"head.multi_label_logit_scale"} if GROUPVIT[name] == "yfcc14m" else set()
    assert temperatures == {"text_encoder.logit_scale"} | multi_label


@pytest.mark.parametrize("name", GROUPVIT)
def test_groupvit_trains_30_epochs_of_whole_batches(name):
    config = config_of(name)
    epoch = sum(PAIRS[part] for part in ("cc3m", "cc12m", GROUPVIT[name])) // 4096
    assert config.train_cfg.max_iters == config.param_scheduler[1].end == 30 * epoch
    assert config.param_scheduler[0].end == config.param_scheduler[1].begin == 2 * epoch


def test_groupvits_rate_follows_timms_schedule():
    config = config_of("groupvit_cc3m-cc12m-yfcc14m")
    warmup, cosine = (dict(item) for item in config.param_scheduler)
    warmup["end"] = cosine["begin"] = 20
    cosine["end"] = 300
    ours, theirs = (torch.optim.AdamW([nn.Parameter(torch.zeros(2))], lr=1.6e-3) for _ in range(2))
    schedulers = [PARAM_SCHEDULERS.build(dict(item, optimizer=ours)) for item in (warmup, cosine)]
    official = CosineLRScheduler(
        theirs, t_initial=300, lr_min=4e-5, warmup_lr_init=4e-6, warmup_t=20, cycle_limit=1, t_in_epochs=False
    )
    for step in range(300):
        official.step_update(step)
        expected, got = theirs.param_groups[0]["lr"], ours.param_groups[0]["lr"]
        # behind the warm-up equal; within, mmengine's line ends one step earlier
        tolerance = 1e-9 if step >= 20 else 1.6e-3 / 19
        assert got == pytest.approx(expected, abs=tolerance), step
        ours.step()
        for scheduler in schedulers:
            scheduler.step()
    assert ours.param_groups[0]["lr"] == pytest.approx(4e-5, rel=0.01)


def test_a_decay_that_ends_before_it_begins_or_counts_epochs_is_refused():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=1.0)
    for options in ({"begin": 5, "end": 5}, {"begin": 0, "end": 5, "by_epoch": True}):
        with pytest.raises(ValueError, match="0 <= begin < end"):
            UnshiftedCosineLR(optimizer, **options)


@pytest.mark.parametrize(
    ("name", "episodes", "epochs"), [("pascal5i", 11_394, 4), ("coco20i", 62_040, 4), ("fss1000", 5_200, 200)]
)
@pytest.mark.parametrize("network", ["", "_vit-l16"])
def test_few_shot_lseg_is_trained_by_the_defaults_of_its_code(name, network, episodes, epochs):
    config = config_of(f"lseg_{name}{network}")
    assert config.train_dataloader.batch_size == 2 * 20  # support and query
    epoch = -(-episodes // 20)
    assert config.train_cfg.max_iters == epochs * epoch and config.param_scheduler[0].end == 200 * epoch
    assert config.sync_bn == "torch"
    for parameter, group in groups_of(config).items():
        of_decoder = parameter.startswith("head.") and not parameter.startswith("head.reassemble")
        assert group["lr"] == pytest.approx(0.05 if of_decoder else 0.005), parameter
        assert (group["momentum"], group["weight_decay"]) == (0.9, 1e-4), parameter
