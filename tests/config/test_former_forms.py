"""Arguments of before 0.2 in configs, overrides and checkpoints, at any depth, by class and by name."""

import warnings

import pytest
import torch
from config_parts import REPOSITORY

from openvocab.config.config import ConfigError, check_arguments, read_config
from openvocab.config.saved import config_changes
from openvocab.heads import LSegHead
from openvocab.registry import DATASETS, class_named
from openvocab.structures import BackboneSpec

CONFIGS = REPOSITORY / "configs"
USERS = """
from mmengine.config import read_base
with read_base():
    from {base} import *
{lines}
"""


@pytest.fixture
def users_config(tmp_path):
    """Write a config that inherits one of the repository's, and return its path."""

    def write(base: str, lines: str):
        path = tmp_path / "mine.py"
        path.write_text(USERS.format(base=f".{base}", lines=lines))
        for entry in CONFIGS.iterdir():
            (tmp_path / entry.name).symlink_to(entry)
        return path

    return write


def test_the_oracles_train_on_all_classes():
    for name in ("lseg_shapes_oracle", "vild_shapes_oracle"):
        options = read_config(CONFIGS / f"{name}.py").train_dataloader.dataset.class_options
        assert options.train_classes == "all", name
    assert read_config(CONFIGS / "vild_shapes_oracle.py").train_dataloader.dataset.class_options.unseen is None


@pytest.mark.parametrize("key", ["model.head.detector.box_beta", "model.head.detector.box_loss.beta"])
def test_an_override_may_name_a_group_that_the_config_does_not_state(key):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        config = read_config(CONFIGS / "vild_text_shapes.py", {key: 0.1})
    assert config.model.head.detector.box_loss == {"beta": 0.1}


def test_a_text_type_is_translated_like_a_class(users_config):
    lines = 'train_dataloader["dataset"].update(type="SegmentationDataset", cache_images=False)'
    with pytest.warns(
        FutureWarning, match=r"mine\.py: train_dataloader\.dataset: SegmentationDataset: cache_images=\.\.\."
    ):
        config = read_config(users_config("lseg_shapes", lines))
    assert config.train_dataloader.dataset.loading.cache_images is False
    assert "cache_images" not in config.train_dataloader.dataset


def test_a_dict_in_an_override_may_hold_former_arguments():
    with pytest.warns(FutureWarning, match="features"):
        config = read_config(CONFIGS / "lseg_shapes.py", {"model.head": dict(features=5)})
    assert config.model.head.decoder.features == 5 and "features" not in config.model.head


@pytest.mark.parametrize(
    "overrides",
    [
        {"{}.cache_images": True, "{}.loading": None},
        {"{}.loading": None, "{}.cache_images": True},
        {"{}.loading": {"cache_images": False}, "{}.loading.cache_images": True},
        {"{}.cache_images": True, "{}.loading.cache_images": False},
    ],
)
def test_overrides_of_one_setting_are_refused(overrides):
    dataset = "train_dataloader.dataset"
    with (
        warnings.catch_warnings(),
        pytest.raises(
            ConfigError, match=r"overrides of '.*\.loading.*' and of '.*\.cache_images'.*; give one of the two$"
        ),
    ):
        warnings.simplefilter("ignore", FutureWarning)
        read_config(CONFIGS / "lseg_shapes.py", {key.format(dataset): value for key, value in overrides.items()})


def test_overrides_of_neighboring_settings_go_together():
    dataset = "train_dataloader.dataset.loading"
    config = read_config(
        CONFIGS / "lseg_shapes.py", {f"{dataset}.cache_images": False, f"{dataset}.bad_samples": "skip"}
    )
    assert config.train_dataloader.dataset.loading == dict(cache_images=False, bad_samples="skip")


def test_a_warning_as_an_error_is_one_line():
    with warnings.catch_warnings(), pytest.raises(ConfigError, match="features"):
        warnings.simplefilter("error", FutureWarning)
        read_config(CONFIGS / "lseg_shapes.py", {"model.head.features": 5})


class DetectionDataset(torch.utils.data.Dataset):
    """A user's class with one of our names."""

    def __init__(self, root, unseen=None, **options):
        self.given = root, unseen, options


def test_arguments_of_a_foreign_class_with_one_of_our_names_stay():
    built = DATASETS.build(dict(type=DetectionDataset, root="a", unseen=["x"], category_ids=[1]))
    assert built.given == ("a", ["x"], {"category_ids": [1]})


def test_a_group_by_position_and_a_former_argument_go_together():
    spec = BackboneSpec(8, 4, (8, 8), (4, 4))
    with pytest.warns(FutureWarning, match="features"):
        head = LSegHead(spec, 8, (0,), dict(factors=None), features=3)
    assert head.embed.in_channels == 3


@pytest.mark.parametrize("path", ["openvocab.datasets.segmentation.SegmentationDataset", "SegmentationDataset"])
def test_a_renamed_argument_of_a_base_is_no_change_of_a_config(path):
    then = {"train_dataloader": {"dataset": {"type": path, "cache_images": True, "reduce_zero_label": True}}}
    groups = {"loading": {"cache_images": True}, "labels": {"reduce_zero_label": True}}
    now = {"train_dataloader": {"dataset": {"type": path, **groups}}}
    assert config_changes(then, now) == {} == config_changes(then, then)


@pytest.mark.parametrize("name", ["LSegHead", "openvocab.heads.lseg.LSegHead", "openvocab.LSegHead"])
def test_a_class_is_found_by_name_and_by_path(name):
    assert class_named(name) is LSegHead


@pytest.mark.parametrize("name", ["os.system", "LSegHed", "openvocab.heads.lseg.torch", "no_such_package.LSegHead", ""])
def test_other_names_are_no_class(name):
    assert class_named(name) is None


def test_a_former_class_is_imported_from_its_own_module():
    with pytest.warns(FutureWarning, match="NeighbourContrast is NeighborContrast now"):
        from openvocab.heads.terms.captions import NeighbourContrast
    assert NeighbourContrast.__name__ == "NeighborContrast"


def test_every_config_of_the_repository_has_present_arguments_only():
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        for path in sorted(CONFIGS.glob("*shapes*.py")):
            check_arguments(read_config(path))
