"""Datasets take their arguments in groups; the flat arguments of before 0.2 still work."""

from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
from config_parts import REPOSITORY

from openvocab.config.config import ConfigError, check_arguments, read_config
from openvocab.config.saved import config_changes
from openvocab.datasets import ClassificationFolder, DetectionDataset, FewShotDataset, SegmentationDataset
from openvocab.datasets.base import Loading
from openvocab.datasets.classification import ImageClassOptions
from openvocab.datasets.detection import CategoryIds, ObjectClassOptions
from openvocab.datasets.few_shot import Episodes, FewShotLabels
from openvocab.datasets.segmentation import LabelIds, Pairing, PixelClassOptions
from openvocab.former_names import ARGUMENTS
from openvocab.registry import DATASETS

SEGMENTATION = dict(images="images", annotations="masks", classes=["wall", "floor", "cat"])
FLAT = {
    "SegmentationDataset": (
        SEGMENTATION,
        dict(
            image_suffix="_photo",
            annotation_suffix="_ids",
            require_annotations=False,
            reduce_zero_label=True,
            ignored_ids=[9],
            label_ids={1: 0, 2: 1, 7: 2},
            unlisted_ids="ignore",
            panoptic_json="p.json",
            unseen=["floor"],
            train_classes="seen",
            background="wall",
            synonym_merge="max",
            repeated_names=["cat"],
            bad_samples="skip",
            max_bad_share=0.5,
            cache_images=True,
        ),
    ),
    "DetectionDataset": (
        dict(images="images", annotations="labels.json"),
        dict(
            category_ids=[3, 7],
            unlisted_ids="ignore",
            frequencies="f.json",
            unseen=["floor"],
            train_classes="seen_labels",
            bad_samples="skip",
        ),
    ),
    "ClassificationFolder": (
        dict(images="images", classes=["wall", "floor"]),
        dict(leave_out=["wall"], unseen=["floor"], repeated_names=["wall"], cache_images=True),
    ),
    "FewShotDataset": (
        dict(images="images", annotations="masks", split="pascal5i", fold=0, part="test", pipeline=[]),
        dict(episodes=7, draw="random", seed=3, pairs=["a.txt"], first_id=2, boundary=0, cache_images=True),
    ),
}
GROUPS = {
    "SegmentationDataset": dict(pairing=Pairing, labels=LabelIds, class_options=PixelClassOptions),
    "DetectionDataset": dict(labels=CategoryIds, class_options=ObjectClassOptions),
    "ClassificationFolder": dict(class_options=ImageClassOptions),
    "FewShotDataset": dict(episodes=Episodes, labels=FewShotLabels),
    "PipelineDataset": dict(loading=Loading),
}

SINCE_THEN = {"labels.colors", "labels.ignored_colors"}
"""Arguments that were in a group from the start."""


def grouped(name: str, flat: dict) -> dict:
    """Return flat arguments in their groups, by the table of former names."""
    present: dict = {}
    for old, value in flat.items():
        group, _, new = (ARGUMENTS[name] | ARGUMENTS["PipelineDataset"])[old].partition(".")
        present.setdefault(group, {})[new] = value
    return present


def state(dataset) -> dict:
    """Return the attributes that the arguments set."""
    return {key: value for key, value in vars(dataset).items() if key not in ("transforms", "_is_bad")}


def test_the_table_of_former_names_is_that_of_the_groups():
    for name, groups in GROUPS.items():
        members = {f"{group}.{field.name}" for group, kind in groups.items() for field in fields(kind)}
        assert members - SINCE_THEN == set(ARGUMENTS[name].values())
    assert all(
        set(ARGUMENTS[name]) <= set(flat) | set(ARGUMENTS["PipelineDataset"]) for name, (_, flat) in FLAT.items()
    )


@pytest.mark.parametrize("name", FLAT)
def test_a_config_with_flat_arguments_is_built_with_a_warning(name):
    required, flat = FLAT[name]
    present = DATASETS.build(dict(type=name, **required, **grouped(name, flat)))
    with pytest.warns(FutureWarning, match=r"is loading=dict\(.*\) now; the old name goes with 0\.3") as warned:
        former = DATASETS.build(dict(type=name, **required, **flat))
    assert len(warned) == len(flat)
    assert state(former) == state(present)


@pytest.mark.parametrize("name", FLAT)
def test_a_call_in_python_with_flat_arguments_warns_and_gives_the_present_form(name):
    required, flat = FLAT[name]
    kind = {one.__name__: one for one in (SegmentationDataset, DetectionDataset, ClassificationFolder, FewShotDataset)}[
        name
    ]
    with pytest.warns(FutureWarning, match=rf"^{name}: \w+=\.\.\. is \w+=dict\(\w+=\.\.\.\) now") as warned:
        former = kind(**required, **flat)
    assert {warning.filename for warning in warned} == {__file__}
    assert state(former) == state(kind(**required, **grouped(name, flat)))


def test_a_group_may_be_an_object_and_knows_its_arguments():
    dataset = SegmentationDataset(**SEGMENTATION, labels=LabelIds(reduce_zero_label=True), pairing=Pairing("_a", "_b"))
    assert dataset.labels.reduce_zero_label and dataset.pairing.annotation_suffix == "_b"
    with pytest.raises(TypeError, match="^labels: unknown 'label_id'; did you mean 'label_ids'"):
        SegmentationDataset(**SEGMENTATION, labels=dict(label_id=[1]))
    with pytest.raises(TypeError, match="^loading: expected a dict with some of bad_samples, max_bad_share, cache_"):
        SegmentationDataset(**SEGMENTATION, loading="skip")
    with pytest.raises(ValueError, match="got both labels.label_ids and label_ids, its name before 0.2; give labels."):
        DATASETS.build(
            dict(type="SegmentationDataset", **SEGMENTATION, labels=dict(label_ids=[1, 2, 3]), label_ids=[0])
        )


CONFIG = """
from openvocab.datasets.segmentation import SegmentationDataset

train_dataloader = dict(
    dataset=dict(type=SegmentationDataset, root="{root}", images="images", annotations="masks",
                 classes=["wall", "floor"], {more})
)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        for part, image in (("images", np.zeros((4, 6, 3))), ("masks", np.full((4, 6), number))):
            (tmp_path / part).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / part / f"{number}.png"), image.astype(np.uint8))
    return tmp_path


@pytest.mark.parametrize("more", ["", "loading=dict(cache_images=False, max_bad_share=0.1)"])
def test_an_option_of_a_tool_may_have_either_form(folder, more):
    (folder / "c.py").write_text(CONFIG.format(root=folder, more=more))
    place = "train_dataloader.dataset"
    present = read_config(
        folder / "c.py", {f"{place}.loading.cache_images": True, f"{place}.labels.unlisted_ids": "ignore"}
    )
    with pytest.warns(FutureWarning, match=r"SegmentationDataset: cache_images=\.\.\. is loading=dict\(cache_images="):
        former = read_config(folder / "c.py", {f"{place}.cache_images": True, f"{place}.unlisted_ids": "ignore"})
    assert former.to_dict() == present.to_dict()
    check_arguments(former)
    dataset = DATASETS.build(former.train_dataloader.dataset)
    assert len(dataset) == 2 and dataset._num_cached == 2 and dataset.labels.unlisted_ids == "ignore"
    with pytest.raises(ConfigError, match="there is no 'lodaing'"):
        read_config(folder / "c.py", {f"{place}.lodaing.cache_images": True})


def test_a_config_of_before_may_inherit_one_of_today(folder):
    """As the page on one's own photos had it before 0.2, on a config whose dataset has `labels`."""
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    (folder / "c.py").write_text(
        "from mmengine.config import read_base\n\nwith read_base():\n    from .configs.lseg_ade import *\n\n"
        'train_dataloader["dataset"].update(classes="names.txt", reduce_zero_label=False, cache_images=True)\n'
    )
    with pytest.warns(FutureWarning, match=r"reduce_zero_label=\.\.\. is labels=dict\(reduce_zero_label=\.\.\.\) now"):
        data = read_config(folder / "c.py").train_dataloader.dataset
    assert data.labels.to_dict() == {"reduce_zero_label": False} and data.loading.cache_images is True
    assert data.class_options.repeated_names == ["screen"] and "reduce_zero_label" not in data
    assert isinstance(DATASETS.build(data), SegmentationDataset)


def test_a_config_of_before_passes_the_check_of_arguments(folder):
    (folder / "c.py").write_text(CONFIG.format(root=folder, more="cache_images=True"))
    check_arguments(read_config(folder / "c.py"))
    (folder / "c.py").write_text(CONFIG.format(root=folder, more="cache_image=True"))
    with pytest.raises(ConfigError, match="SegmentationDataset takes no 'cache_image'"):
        check_arguments(read_config(folder / "c.py"))


def test_a_resumed_run_of_before_has_the_same_config():
    config = read_config(REPOSITORY / "configs" / "lseg_shapes.py")
    present = config.to_dict()["train_dataloader"]["dataset"]
    path = "openvocab.datasets.segmentation.SegmentationDataset"
    kept = {key: value for key, value in present.items() if key not in ("pairing", "class_options", "loading", "type")}
    former = {"type": path, **kept, **present["pairing"], **present["class_options"], **present["loading"]}
    assert config_changes({"dataset": former}, {"dataset": {**present, "type": path}}) == {}
