"""Configs that claim an official recipe: their numbers, as the official code comes by them."""

import json
import re

import numpy as np
import pytest
import torch
from config_parts import REPOSITORY, without_weights
from glip_reference import needs_reference
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from PIL import Image
from readout_reference import KEYS
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import nn
from torchvision.transforms import functional

from openvocab.config.config import read_config
from openvocab.converters.glip import convert
from openvocab.engine.run_config import complete_training
from openvocab.engine.unshifted_cosine import UnshiftedCosineLR
from openvocab.registry import DATASETS, MODELS, PARAM_SCHEDULERS

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


GLIP = {  # rate, rate of BERT, decay
    "glip_t_a_o365": (1e-4, 1e-5, 1e-4),
    "glip_t_o365-goldg": (1e-4, 1e-5, 1e-4),
    "glip_l_o365-goldg": (1e-4, 1e-5, 0.01),
    "glip_t_coco": (1e-5, 1e-5, 1e-4),
    "glip_t_odinw": (1e-4, 1e-5, 0.05),
    "glip_t_odinw_prompt": (0.05, 1e-5, 0.25),
    "glip_t_odinw_linear": (1e-4, 1e-5, 0.05),
}
LAYERS = ("box_offsets", "centerness", "alignment.project")
BIASES = r"\.bias$|\.relative_position_bias_table$|\.token_bias$"


@pytest.mark.parametrize("name", GLIP)
def test_glip_doubles_the_rate_of_biases_and_does_not_decay_them(name):
    rate, text_rate, decay = GLIP[name]
    groups = groups_of(config_of(name))
    for parameter, group in groups.items():
        expected = text_rate if parameter.startswith("text_encoder.") else rate
        is_bias = re.search(BIASES, parameter) is not None
        assert group["lr"] == pytest.approx(expected * (2 if is_bias else 1)), parameter
        assert group["weight_decay"] == pytest.approx(0.0 if is_bias else decay), parameter
        assert group["betas"] == (0.9, 0.999) and group["eps"] == 1e-8


@needs_reference
@pytest.mark.parametrize(("name", "layout"), [("glip_t_a_o365", "swint_a"), ("glip_t_b_o365", "swint_fused")])
def test_glip_groups_parameters_as_their_official_names_do(name, layout):
    lines = (KEYS / f"glip_{layout}.txt").read_text().splitlines()
    keys, shapes = zip(*(re.match(r"(\S+) \(([\d, ]*)\)", line).groups() for line in lines))
    sizes = [[int(length) for length in re.findall(r"\d+", shape)] for shape in shapes]
    # each entry is filled with its own number, by which it is found after its renaming
    official = {key: torch.tensor(float(i)).expand(size) for i, (key, size) in enumerate(zip(keys, sizes))}
    groups = groups_of(config_of(name))
    renamed = convert(official)
    assert set(groups) == {key for key in renamed if not key.endswith("position_ids")}
    for parameter, group in groups.items():
        key = keys[int(renamed[parameter].flatten()[0])]
        rate, decay = 1e-5 if "language_backbone" in key else 1e-4, 1e-4
        if "bias" in key:
            rate, decay = rate * 2, 0.0
        assert (group["lr"], group["weight_decay"]) == (pytest.approx(rate), decay), (key, parameter)


@pytest.mark.parametrize(
    ("name", "iterations", "batch"),
    [
        ("glip_t_a_o365", 30 * 609_000 / 64, 64 // 32),
        ("glip_t_b_o365", 30 * 609_000 / 64, 64 // 32),
        ("glip_t_o365-goldg", 30 * (609_000 + 621_000 + 149_000) / 64, 64 // 32),
        ("glip_l_o365-goldg", 1_000_000, 64 // 64),
        ("glip_t_coco", 24 * 117_266 / 32, 32 // 16),
    ],
)
def test_glip_trains_the_official_epochs_and_falls_at_two_and_eight_ninths(name, iterations, batch):
    config = config_of(name)
    end = config.train_cfg.max_iters
    assert end == config.max_iters == pytest.approx(iterations, rel=2e-3)
    assert list(config.param_scheduler[1].milestones) == [round(0.67 * end), round(0.89 * end)]
    assert (config.param_scheduler[0].end, config.param_scheduler[0].start_factor) == (2000, 1e-3)
    assert config.train_dataloader.batch_size == batch
    assert config.optim_wrapper.clip_grad.max_norm == 1.0
    assert [hook.momentum for hook in config.custom_hooks] == ([] if "_l_" in name else [pytest.approx(1 - 0.999)])


def test_glips_decay_falls_before_its_rate_in_the_large_model():
    (decay,) = (item for item in config_of("glip_l_o365-goldg").param_scheduler if "param_name" in item)
    assert (decay.param_name, decay.gamma) == ("weight_decay", 0.1)
    assert list(decay.milestones) == [round(0.667 * 670_000), round(0.667 * 890_000)]


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("glip_t_odinw_prompt", {"head.token_offset"}),
        (
            "glip_t_odinw_linear",
            {f"head.{part}.{kind}" for part in ("box_offsets", "centerness") for kind in ("weight", "bias")}
            | {
                f"head.alignment.{part}"
                for part in ("project.weight", "project.bias", "log_scale", "token_bias", "bias")
            },
        ),
    ],
)
def test_tuning_glip_for_a_dataset_trains_only_what_it_says(name, trained):
    assert set(groups_of(config_of(name))) == trained


@pytest.mark.parametrize("name", ["glip_t_odinw", "glip_l_o365-goldg"])
def test_fine_tuned_glip_keeps_the_first_layers_of_swin(name):
    groups = groups_of(config_of(name))
    frozen = ("backbone.patch_embed.", "backbone.stages.0.")
    assert not [parameter for parameter in groups if parameter.startswith(frozen)]
    assert any(parameter.startswith("backbone.stages.1.") for parameter in groups)


def official_input(image: np.ndarray) -> torch.Tensor:
    """Return what official GLIP feeds its network for an RGB image (H, W, 3) of landscape format, channels reversed."""
    height, width = image.shape[:2]
    resized = functional.resize(Image.fromarray(image), [800, int(800 * width / height)])
    bgr = functional.to_tensor(resized)[[2, 1, 0]] * 255
    normalized = functional.normalize(bgr, [103.530, 116.280, 123.675], [57.375, 57.120, 58.395])
    padded = torch.zeros(3, *(-(-length // 32) * 32 for length in normalized.shape[1:]))
    padded[:, : normalized.shape[1], : normalized.shape[2]] = normalized
    return padded.flip(0)


def test_glips_network_is_fed_what_the_official_one_is(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    labels = {
        "images": [{"id": 1, "file_name": "photo.png", "height": 480, "width": 640}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    config = config_of("glip_t_coco")
    part = dict(config.test_dataloader.dataset.to_dict(), root=str(tmp_path), images=".", annotations="labels.json")
    model = without_weights(config.model.to_dict())
    model["backbone"].update(dim=16, depths=(1, 1, 1, 1), heads=(1, 1, 1, 1))
    model["text_encoder"]["config"] = dict(num_hidden_layers=1)
    model["head"]["tower"]["num_blocks"] = 1
    item = DATASETS.build(part)[0]
    batch = {"image": [item["image"]], "sample": [item["sample"]]}
    fed = MODELS.build(model).data_preprocessor.pixels(batch)["images"].whole()[0]
    torch.testing.assert_close(fed, official_input(image), rtol=0, atol=2e-6)
    assert fed.shape == (3, 800, 1088) and not fed[:, :, 1066:].any()
