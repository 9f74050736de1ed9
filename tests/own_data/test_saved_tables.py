"""A dataset that Hugging Face's `datasets` saved gives the photos and labels that are in it."""

import json
import os
import shutil

import numpy as np
import pytest
from own_files import BOXES, NAMES, label_map, write_masks, write_photos

# tests/datasets, which is in the path of modules, is no such package, but looks like one
pytest.importorskip("datasets.arrow_dataset", reason="needs datasets, which writes what is read here")

import datasets
import pyarrow.parquet
from saved_datasets import of_boxes, of_label_maps, png, save_as_on_hub, save_in_folders, save_one_each, save_to_disk
from tool_runs import run_command

from openvocab.own_data.class_names import with_names
from openvocab.own_data.recognition import recognize
from openvocab.registry import DATASETS

datasets.disable_progress_bars()
TRAIN, VAL, TEST = range(3), range(3, 5), range(5, 6)
SAVERS = [save_to_disk, save_as_on_hub, save_in_folders, save_one_each]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder into which datasets are unpacked."""
    monkeypatch.setenv("OPENVOCAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tables"


def files_in(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def split(make, tmp_path, **arguments):
    parts = {"train": TRAIN, "validation": VAL, "test": TEST}
    return {name: make(tmp_path / "made", indices, **arguments) for name, indices in parts.items()}


def samples(data, part, task, folder):
    dataset = DATASETS.build(data.dataset(part, task, folder / "keys"))
    return [dataset[index]["sample"] for index in range(len(dataset))]


def check_boxes(data, tmp_path, **parts):
    assert list(data.parts) == list(parts)
    for part, indices in parts.items():
        found = samples(data, part, "detection", tmp_path)
        assert len(found) == len(indices)
        for index, sample in zip(indices, found):
            assert list(sample.vocabulary.class_names) == NAMES
            assert sample.instances.classes.tolist() == [0, 1]
            np.testing.assert_allclose(sample.instances.boxes.numpy(), BOXES[index], atol=1e-3)


def check_label_maps(data, tmp_path, **parts):
    assert list(data.parts) == list(parts)
    for part, indices in parts.items():
        found = samples(data, part, "segmentation", tmp_path)
        assert len(found) == len(indices)
        for index, sample in zip(indices, found):
            np.testing.assert_array_equal(sample.label_map.numpy(), label_map(index))


@pytest.mark.parametrize("save", SAVERS)
def test_parts_and_boxes_of_every_layout_are_read_and_nothing_is_written_there(save, tmp_path):
    save(tmp_path / "saved", split(of_boxes, tmp_path))
    before = files_in(tmp_path / "saved")
    data = recognize(tmp_path / "saved")
    assert data.task() == "detection"
    check_boxes(with_names(data), tmp_path, train=TRAIN, val=VAL, test=TEST)
    assert files_in(tmp_path / "saved") == before


@pytest.mark.parametrize("save", SAVERS)
@pytest.mark.parametrize("label", ["label", "annotation", "segmentation_mask"])
def test_parts_and_label_maps_of_every_layout_are_read_with_255_as_unlabeled(save, label, tmp_path):
    save(tmp_path / "saved", split(of_label_maps, tmp_path, label=label))
    (tmp_path / "saved" / "names.txt").write_text("\n".join(NAMES))
    data = recognize(tmp_path / "saved")
    assert data.task() == "segmentation" and [one for (one,) in data.names] == NAMES
    check_label_maps(data, tmp_path, train=TRAIN, val=VAL, test=TEST)


@pytest.mark.parametrize("form", ["structure", "list"])
@pytest.mark.parametrize("names, category", [(NAMES, int), (None, lambda label: NAMES[label])])
def test_objects_have_either_form_and_names_by_number_or_as_text(form, names, category, tmp_path):
    dataset = of_boxes(tmp_path / "made", form=form, names=names, category=category)
    dataset.save_to_disk(tmp_path / "saved", num_shards=3)
    check_boxes(with_names(recognize(tmp_path / "saved", "detection")), tmp_path, train=range(6))


@pytest.mark.parametrize("old", ["sequence of structures", "lists in brackets", "damaged", "contradicting"])
def test_what_old_versions_wrote_about_features_names_the_classes_and_changes_nothing_else(old, tmp_path):
    save_one_each(tmp_path / "saved", {"train": of_boxes(tmp_path / "made")})
    path = tmp_path / "saved" / "train.parquet"
    table = pyarrow.parquet.read_table(path)
    box, kind = {"dtype": "float32", "_type": "Value"}, {"names": NAMES, "_type": "ClassLabel"}
    objects = {
        "sequence of structures": {
            "feature": {"bbox": {"feature": box, "length": 4, "_type": "Sequence"}, "category": kind},
            "_type": "Sequence",
        },
        "lists in brackets": {"bbox": [[box]], "category": [kind]},
        "damaged": None,
        "contradicting": {"other": kind, "category": {"_type": "Image"}, "bbox": 3},
    }[old]
    written = {"info": {"features": {"image": {"_type": "Image"}, "objects": objects}}}
    content = b"{" if old == "damaged" else json.dumps(written).encode()
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": content}), path)
    if old in ("damaged", "contradicting"):
        (tmp_path / "saved" / "names.txt").write_text("\n".join(NAMES))
    check_boxes(with_names(recognize(tmp_path / "saved")), tmp_path, train=range(6))


def test_numbers_without_names_need_a_file_of_names(tmp_path):
    save_one_each(tmp_path / "saved", {"train": of_boxes(tmp_path / "made", names=None)})
    with pytest.raises(ValueError, match=r"row 0: category: 0 has no name.*names.txt"):
        recognize(tmp_path / "saved")
    (tmp_path / "saved" / "names.txt").write_text("\n".join(NAMES))
    check_boxes(with_names(recognize(tmp_path / "saved")), tmp_path, train=range(6))


def test_a_dataset_is_unpacked_once_and_anew_when_it_changes(tmp_path, cache):
    save_one_each(tmp_path / "saved", {"train": of_boxes(tmp_path / "made")})
    recognize(tmp_path / "saved")
    first = files_in(cache)
    recognize(tmp_path / "saved")
    assert files_in(cache) == first
    of_boxes(tmp_path / "made", range(2)).to_parquet(tmp_path / "saved" / "train.parquet")
    data = with_names(recognize(tmp_path / "saved"))
    check_boxes(data, tmp_path, train=range(2))
    assert first.items() < files_in(cache).items()


def test_image_files_are_the_bytes_of_the_dataset(tmp_path):
    dataset = of_label_maps(tmp_path / "made")
    save_one_each(tmp_path / "saved", {"train": dataset})
    (tmp_path / "saved" / "names.txt").write_text("\n".join(NAMES))
    part = recognize(tmp_path / "saved").parts["train"]
    for row, value in enumerate(dataset.with_format("arrow")[:].to_pylist()):
        assert (part.images / f"{row:08d}.png").read_bytes() == value["image"]["bytes"]
        assert (part.labels / f"{row:08d}.png").read_bytes() == value["label"]["bytes"]


def test_a_data_file_states_columns_names_and_the_format_of_boxes(tmp_path):
    made = of_boxes(tmp_path / "made", boxes=list).rename_column("image", "photo").add_column("n", list(range(6)))
    made = made.map(lambda row: dict(thumbnail=row["photo"]), features=datasets.Features(
        {**made.features, "thumbnail": datasets.Image()}))  # fmt: skip
    save_one_each(tmp_path / "saved", {"train": made})
    with pytest.raises(ValueError, match=r"photo \(Image\).*objects with bbox and category.*columns: \{image: NAME\}"):
        recognize(tmp_path / "saved")
    file = tmp_path / "my.yaml"
    file.write_text("path: saved\ncolumns: {image: photo}\n")
    with pytest.raises(ValueError, match="as two corners; pass a data file with box_format: xyxy"):
        recognize(file)
    file.write_text("path: saved\ncolumns: {image: photo}\nbox_format: xyxy\n")
    check_boxes(with_names(recognize(file)), tmp_path, train=range(6))


def test_a_data_file_names_categories_by_their_numbers_and_adds_synonyms(tmp_path):
    made = of_boxes(tmp_path / "made", names=None, category=lambda label: label)
    made = made.map(lambda row: dict(objects=dict(row["objects"], category=[1, 7])))
    save_one_each(tmp_path / "saved", {"train": made})
    file = tmp_path / "my.yaml"
    file.write_text("path: saved\nnames: {7: blue box; azure box, 1: red box}\n")
    data = recognize(file)
    check_boxes(data, tmp_path, train=range(6))
    assert data.names == [["red box"], ["blue box", "azure box"]]
    file.write_text("path: saved\nnames: {0: red box, 1: blue box}\n")
    with pytest.raises(ValueError, match="row 0: category: 7 has no name; numbers with names: 0, 1"):
        recognize(file)


def test_a_data_file_states_ids_of_label_maps(tmp_path):
    made = of_label_maps(tmp_path / "made", image="pixel_values", label="label")
    save_to_disk(tmp_path / "saved", {"train": made})
    file = tmp_path / "my.yaml"
    file.write_text("path: saved\nnames: {1: blue box}\nunlabeled: [0, 255]\n")
    for index, sample in enumerate(samples(recognize(file), "train", "segmentation", tmp_path)):
        np.testing.assert_array_equal(sample.label_map.numpy(), np.where(label_map(index) == 1, 0, 255))


def test_the_task_decides_between_label_maps_and_boxes(tmp_path):
    label_maps = of_label_maps(tmp_path / "made").select_columns("label")
    both = datasets.concatenate_datasets([of_boxes(tmp_path / "made"), label_maps], axis=1)
    save_one_each(tmp_path / "saved", {"train": both})
    (tmp_path / "saved" / "names.txt").write_text("\n".join(NAMES))
    with pytest.raises(ValueError, match="label maps and boxes.*--task"):
        recognize(tmp_path / "saved")
    check_boxes(with_names(recognize(tmp_path / "saved", "detection")), tmp_path, train=range(6))
    check_label_maps(recognize(tmp_path / "saved", "segmentation"), tmp_path, train=range(6))


def test_wrong_boxes_reach_the_checks_of_every_other_format(tmp_path, capsys):
    boxes = iter([[-5, 4, 20, 10], [0, 0, 0, 5], [500, 500, 5, 5], [float("nan"), 0, 5, 5], *[[1, 1, 9, 9]] * 8])
    save_one_each(tmp_path / "saved", {"train": of_boxes(tmp_path / "made", boxes=lambda box: next(boxes))})
    run_command("data", "check", tmp_path / "saved", "--json")
    text = json.dumps(json.loads(capsys.readouterr().out))
    for reason in ("not finite", "zero or negative size", "outside", "beyond"):
        assert reason in text


@pytest.mark.parametrize(
    "box, category, message",
    [
        (lambda box: [1, 2, 3], int, "row 0: bbox: expected 4 numbers"),
        (lambda box: None, int, "row 0: bbox: expected 4 numbers"),
        (lambda box: [1, 2, 3, None], int, "row 0: bbox: expected a number"),
        (lambda box: [1, 2, 3, 4], lambda label: None, "row 0: category: expected a whole number"),
    ],
)
def test_an_object_that_is_none_states_its_row(box, category, message, tmp_path):
    made = of_boxes(tmp_path / "made", boxes=box, category=category)
    save_one_each(tmp_path / "saved", {"train": made})
    with pytest.raises(ValueError, match=message):
        recognize(tmp_path / "saved")


def test_a_photo_without_objects_or_label_map_is_kept_without_labels(tmp_path):
    empty = of_boxes(tmp_path / "made").map(lambda row, at: {} if at else dict(objects=dict(bbox=[], category=[])),
                                            with_indices=True)  # fmt: skip
    save_one_each(tmp_path / "saved", {"train": empty})
    assert "00000000.png" in (recognize(tmp_path / "saved").parts["train"].labels).read_text()


def test_a_row_without_an_image_is_an_error_and_leaves_nothing(tmp_path, cache):
    rows = dict(image=[png(np.zeros((4, 4, 3), np.uint8)), None], label=[png(np.zeros((4, 4), np.uint8))] * 2)
    features = datasets.Features(image=datasets.Image(), label=datasets.Image())
    save_one_each(tmp_path / "saved", {"train": datasets.Dataset.from_dict(rows, features=features)})
    with pytest.raises(ValueError, match="train: row 1 has no image in image"):
        recognize(tmp_path / "saved")
    assert files_in(cache) == {}


@pytest.mark.parametrize("save, pattern", [(save_to_disk, "*.arrow"), (save_as_on_hub, "*.parquet")])
@pytest.mark.parametrize("damage", ["end", "middle", "pointer", "empty"])
def test_a_damaged_file_is_one_line_that_names_it(save, pattern, damage, tmp_path, cache):
    save(tmp_path / "saved", split(of_boxes, tmp_path))
    path = sorted((tmp_path / "saved").rglob(pattern))[0]
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes({
        "end": content[:-8],
        "middle": content[: middle - 300] + b"\xff" * 600 + content[middle + 300 :],
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "empty": b"",
    }[damage])  # fmt: skip
    if damage == "middle":  # inside of an image: only its reader can notice
        content = bytearray(content)
        for at in range(0, middle, 8):
            content[at] ^= 0x5A
        path.write_bytes(content)
    with pytest.raises((ValueError, ImportError), match=path.name) as caught:
        recognize(tmp_path / "saved")
    assert "\n" not in str(caught.value)
    assert damage != "pointer" or "git lfs pull" in str(caught.value)
    assert not any(cache.rglob("*.png"))


@pytest.mark.parametrize("save, pattern", [(save_to_disk, "*.arrow"), (save_as_on_hub, "train*.parquet")])
def test_a_missing_file_is_named(save, pattern, tmp_path):
    save(tmp_path / "saved", split(of_boxes, tmp_path))
    path = sorted((tmp_path / "saved").rglob(pattern))[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        recognize(tmp_path / "saved")


def test_a_list_of_files_leads_nowhere_else(tmp_path):
    of_boxes(tmp_path / "made").save_to_disk(tmp_path / "saved")
    shutil.copytree(tmp_path / "saved", tmp_path / "other")
    state = json.loads((tmp_path / "saved" / "state.json").read_text())
    state["_data_files"] = [dict(filename="../other/data-00000-of-00001.arrow")]
    (tmp_path / "saved" / "state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match="state.json: expected a list of names"):
        recognize(tmp_path / "saved")


def test_files_of_different_classes_are_an_error(tmp_path):
    parts = split(of_boxes, tmp_path)
    parts["validation"] = of_boxes(tmp_path / "made", VAL, names=["cat", "dog"])
    save_one_each(tmp_path / "saved", parts)
    with pytest.raises(ValueError, match=r"train.parquet and .*validation.parquet have different"):
        recognize(tmp_path / "saved")


def test_columns_of_one_name_are_an_error(tmp_path):
    save_one_each(tmp_path / "saved", {"train": of_boxes(tmp_path / "made")})
    path = tmp_path / "saved" / "train.parquet"
    table = pyarrow.parquet.read_table(path).rename_columns(["image", "objects", "objects"])
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(ValueError, match="columns have the same name"):
        recognize(tmp_path / "saved")


def test_several_configs_and_several_readings_are_errors_that_list_them(tmp_path):
    made = of_boxes(tmp_path / "made")
    for name in ("small", "large"):
        (tmp_path / "saved" / name).mkdir(parents=True)
        made.to_parquet(tmp_path / "saved" / name / "train.parquet")
    with pytest.raises(ValueError, match=r"several datasets, in .*large and .*small; pass one"):
        recognize(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved" / "small")
    write_photos(tmp_path / "saved" / "images")
    write_masks(tmp_path / "saved" / "masks")
    with pytest.raises(ValueError, match=r"a dataset in .*train.parquet, and label maps in .*masks"):
        recognize(tmp_path / "saved")


def test_splits_of_other_names_are_an_error_without_train(tmp_path):
    made = of_boxes(tmp_path / "made")
    save_to_disk(tmp_path / "saved", {"first": made, "second": made})
    with pytest.raises(ValueError, match="no split 'train' among first, second"):
        recognize(tmp_path / "saved")


def test_images_that_the_dataset_only_names_are_an_error(tmp_path):
    kind = pyarrow.struct(dict(bytes=pyarrow.binary(), path=pyarrow.string()))
    images = pyarrow.array([dict(bytes=None, path="/etc/passwd")], kind)
    (tmp_path / "saved").mkdir()
    table = pyarrow.table(dict(image=images, label=pyarrow.array([png(np.zeros((4, 4), np.uint8))], kind)))
    pyarrow.parquet.write_table(table, tmp_path / "saved" / "train.parquet")
    with pytest.raises(ValueError, match=r"row 0: image is not in the dataset, which only names /etc/passwd"):
        recognize(tmp_path / "saved")


def test_an_interrupted_unpacking_leaves_nothing_under_the_final_name(tmp_path, cache, monkeypatch):
    save_one_each(tmp_path / "saved", {"train": of_boxes(tmp_path / "made")})
    with monkeypatch.context() as patch:
        patch.setattr(os, "sync", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            recognize(tmp_path / "saved")
    assert list(cache.iterdir()) == []
    check_boxes(with_names(recognize(tmp_path / "saved")), tmp_path, train=range(6))
