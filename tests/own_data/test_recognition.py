"""A folder or file of a labeling tool is recognized, and gives the photos and labels that are in it."""

import json
import shutil

import numpy as np
import pytest
from own_files import (
    BOXES,
    COLORS,
    NAMES,
    coco,
    cvat_xml,
    label_map,
    label_studio,
    write_coco,
    write_color_masks,
    write_labelme,
    write_masks,
    write_photos,
    write_voc,
    write_yolo,
)

from openvocab.own_data.recognition import recognize
from openvocab.own_data.splitting import split_keys, with_validation
from openvocab.registry import DATASETS

TRAIN, VAL = range(4), range(4, 6)


def samples(data, part, task, folder):
    """Return {last digit of the photo's name: sample} of a part."""
    dataset = DATASETS.build(data.dataset(part, task, folder / "keys"))
    items = [dataset[index]["sample"] for index in range(len(dataset))]
    return {int(sample.image_path[-5]): sample for sample in items}


def check(data, task, folder, **parts):
    """Check which photos each part has, and their labels."""
    assert list(data.parts) == list(parts)
    for part, indices in parts.items():
        found = samples(data, part, task, folder)
        assert sorted(found) == list(indices)
        for index, sample in found.items():
            order = [sample.vocabulary.class_names.index(name) for name in NAMES]
            if task == "segmentation":
                labels = label_map(index)
                expected = np.where(labels == 255, 255, np.array([*order, 0])[np.minimum(labels, 2)])
                np.testing.assert_array_equal(sample.label_map.numpy(), expected)
            else:
                rows = [sample.instances.classes.tolist().index(label) for label in order]
                np.testing.assert_allclose(sample.instances.boxes[rows].numpy(), BOXES[index], atol=1e-3)


def coco_in_annotations(root):
    for part, indices in (("train", TRAIN), ("val", VAL)):
        write_photos(root / f"{part}2017", indices)
        write_coco(root / "annotations" / f"instances_{part}2017.json", indices)
        (root / "annotations" / f"captions_{part}2017.json").write_text('{"images": [], "annotations": []}')
    return dict(train=TRAIN, val=VAL)


def coco_of_roboflow(root):
    for part, indices in (("train", TRAIN), ("valid", VAL)):
        write_photos(root / part, indices)
        write_coco(root / part / "_annotations.coco.json", indices)
    return dict(train=TRAIN, val=VAL)


def coco_of_cvat(root):
    write_photos(root / "images")
    write_coco(root / "annotations" / "instances_default.json")
    return dict(train=range(6))


def coco_of_label_studio(root):
    write_photos(root / "images")
    content = coco()
    for image in content["images"]:
        image["file_name"] = f"images/{image['file_name']}"
    (root / "result.json").write_text(json.dumps(content))
    return dict(train=range(6))


def yolo_with_names(root):
    for part, indices in (("train", TRAIN), ("val", VAL)):
        write_photos(root / "images" / part, indices)
        write_yolo(root / "labels" / part, indices, polygons=True)
    (root / "classes.txt").write_text("\n".join(NAMES))
    return dict(train=TRAIN, val=VAL)


def yolo_of_cvat(root):
    write_photos(root / "obj_train_data")
    write_yolo(root / "obj_train_data", polygons=True)
    (root / "obj.names").write_text("\n".join(NAMES))
    return dict(train=range(6))


def yolo_of_roboflow(root):
    for part, indices in (("train", TRAIN), ("valid", VAL)):
        write_photos(root / part / "images", indices)
        write_yolo(root / part / "labels", indices, polygons=True)
    (root / "data.yaml").write_text(
        f"train: ../train/images\nval: ../valid/images\ntest: ''\nnc: 2\nnames: {NAMES}\nroboflow: {{license: x}}\n"
    )
    return dict(train=TRAIN, val=VAL)


def yolo_of_ultralytics(root):
    for part, indices in (("train", TRAIN), ("val", VAL)):
        write_photos(root / "coco" / "images" / part, indices)
        write_yolo(root / "coco" / "labels" / part, indices, polygons=True)
    names = "\n".join(f"  {index}: {name}" for index, name in enumerate(NAMES))
    (root / "data.yaml").write_text(f"path: coco\ntrain: images/train\nval: images/val\nnames:\n{names}\n")
    return dict(train=TRAIN, val=VAL)


def yolo_lists_of_ultralytics(root):
    write_photos(root / "images")
    write_yolo(root / "labels", polygons=True)
    for part, indices in (("train", TRAIN), ("val", VAL)):
        (root / f"{part}.txt").write_text("\n".join(f"./images/photo {index}.png" for index in indices))
    (root / "data.yaml").write_text(f"train: train.txt\nval: val.txt\nnames: {NAMES}\n")
    return dict(train=TRAIN, val=VAL)


def voc(root):
    write_photos(root / "JPEGImages")
    write_voc(root / "Annotations")
    sets = root / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    for part, indices in (("train", TRAIN), ("val", VAL)):
        (sets / f"{part}.txt").write_text("\n".join(f"photo {index}" for index in indices))
    return dict(train=TRAIN, val=VAL)


def voc_in_one_folder(root):
    write_photos(root)
    write_voc(root)
    return dict(train=range(6))


def labelme_in_one_folder(root):
    write_photos(root)
    write_labelme(root)
    return dict(train=range(6))


def labelme_by_part(root):
    for part, indices in (("train", TRAIN), ("val", VAL)):
        write_photos(root / part, indices)
        write_labelme(root / part, indices)
    return dict(train=TRAIN, val=VAL)


def cvat(root):
    write_photos(root / "images")
    (root / "annotations.xml").write_text(cvat_xml())
    return dict(train=range(6))


def label_studio_tasks(root):
    write_photos(root / "images")
    (root / "project-1-at-2024.json").write_text(json.dumps(label_studio()))
    return dict(train=range(6))


def masks(root):
    for part, indices in (("train", TRAIN), ("val", VAL)):
        write_photos(root / "images" / part, indices, ".jpg")
        write_masks(root / "masks" / part, indices)
    (root / "names.txt").write_text("\n".join(NAMES))
    return dict(train=TRAIN, val=VAL)


def masks_of_cvat(root):
    write_photos(root / "JPEGImages")
    write_color_masks(root / "SegmentationClass")
    write_color_masks(root / "SegmentationObject")
    lines = [f"{name}:{','.join(map(str, color))}::" for name, color in zip(NAMES, COLORS)]
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "\n".join([*lines, "background:0,0,0::"]))
    return dict(train=range(6))


BOTH = [
    coco_in_annotations, coco_of_roboflow, coco_of_cvat, coco_of_label_studio, yolo_with_names, yolo_of_cvat,
    yolo_of_roboflow, yolo_of_ultralytics, yolo_lists_of_ultralytics, labelme_in_one_folder, labelme_by_part, cvat,
    label_studio_tasks,
]  # fmt: skip


@pytest.mark.parametrize("write", BOTH, ids=lambda write: write.__name__)
def test_outlines_are_recognized_and_give_label_maps(write, tmp_path):
    parts = write(tmp_path / "mine")
    check(recognize(tmp_path / "mine", "segmentation"), "segmentation", tmp_path, **parts)


@pytest.mark.parametrize("write", [*BOTH, voc, voc_in_one_folder], ids=lambda write: write.__name__)
def test_objects_are_recognized_and_give_boxes(write, tmp_path, monkeypatch):
    if "yolo" in write.__name__:  # boxes, as most have
        monkeypatch.setitem(write.__globals__, "write_yolo", lambda *at, polygons=False, write=write_yolo: write(*at))
    parts = write(tmp_path / "mine")
    check(recognize(tmp_path / "mine", "detection"), "detection", tmp_path, **parts)


def test_label_maps_are_recognized(tmp_path):
    parts = masks(tmp_path / "mine")
    check(recognize(tmp_path / "mine"), "segmentation", tmp_path, **parts)


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    (tmp_path / "mine").mkdir()


def test_label_maps_in_colors_are_recognized_by_their_table(tmp_path):
    masks_of_cvat(tmp_path / "mine")
    data = recognize(tmp_path / "mine")
    sample = samples(data, "train", "segmentation", tmp_path)[2]
    assert sample.vocabulary.class_names == (*NAMES, "background")
    np.testing.assert_array_equal(sample.label_map.numpy(), label_map(2, ground=2))


@pytest.mark.parametrize("name", ["annotations/instances_train2017.json", "annotations/instances_val2017.json"])
def test_a_file_of_labels_finds_its_images(name, tmp_path):
    coco_in_annotations(tmp_path / "mine")
    indices = TRAIN if "train" in name else VAL
    check(recognize(tmp_path / "mine" / name), "detection", tmp_path, train=indices)


def test_two_readings_are_an_error_that_lists_them(tmp_path):
    coco_of_cvat(tmp_path / "mine")
    (tmp_path / "mine" / "annotations.xml").write_text(cvat_xml())
    with pytest.raises(ValueError, match="can be read in 2 ways: (COCO|CVAT) in .*; (COCO|CVAT) in .*; pass one of"):
        recognize(tmp_path / "mine")


def test_the_task_chooses_between_boxes_and_label_maps(tmp_path):
    voc(tmp_path / "mine")
    write_masks(tmp_path / "mine" / "SegmentationClass")
    (tmp_path / "mine" / "names.txt").write_text("\n".join(NAMES))
    assert recognize(tmp_path / "mine", "detection").kind == "Pascal VOC"
    assert recognize(tmp_path / "mine", "segmentation").kind == "label maps"
    with pytest.raises(ValueError, match="2 ways"):
        recognize(tmp_path / "mine")


def test_what_is_missing_is_said(tmp_path):
    folder = tmp_path / "mine"
    with pytest.raises(FileNotFoundError, match="no file or folder .*nothing"):
        recognize(tmp_path / "nothing")
    write_photos(folder / "images")
    with pytest.raises(ValueError, match="no labels are recognized in .*docs/data.md"):
        recognize(folder)
    write_masks(folder / "masks")
    with pytest.raises(ValueError, match="no labels for detection are recognized in .*; it holds label maps"):
        recognize(folder, "detection")
    with pytest.raises(ValueError, match="hold numbers only, and no names are found"):
        recognize(folder)
    write_photos(tmp_path / "boxes" / "images")
    write_yolo(tmp_path / "boxes" / "labels")
    with pytest.raises(ValueError, match="data: YOLO labels hold numbers only, and no names are found"):
        recognize(tmp_path / "boxes")
    for name in ("names.txt", "classes.txt"):
        (folder / name).write_text("\n".join(NAMES))
    with pytest.raises(ValueError, match="several files list names"):
        recognize(folder)


def test_images_that_are_not_found_or_in_two_folders_are_an_error(tmp_path):
    coco_of_cvat(tmp_path / "mine")
    shutil.copytree(tmp_path / "mine" / "images", tmp_path / "mine" / "photos")
    with pytest.raises(ValueError, match="may be those in .*images and .*photos; pass a data file"):
        recognize(tmp_path / "mine")
    for name in ("images", "photos"):
        shutil.rmtree(tmp_path / "mine" / name)
    with pytest.raises(FileNotFoundError, match="such as photo 0.png, are not found near it"):
        recognize(tmp_path / "mine")


def test_other_files_are_not_data(tmp_path):
    path = tmp_path / "mine" / "notes.json"
    path.write_text('{"a": 1}')
    with pytest.raises(ValueError, match="neither a data file"):
        recognize(path)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("labels.json", b'{"images": [', "is not JSON, or cut off"),
        ("labels.xml", b"<annotations>", "is not XML"),
        ("my.yaml", b"names: [", "is not YAML"),
    ],
)
def test_a_damaged_file_says_what_is_wrong_with_it(tmp_path, name, content, line):
    path = tmp_path / "mine" / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} {line}"):
        recognize(path)
    if name == "my.yaml":
        with pytest.raises(ValueError, match=f"no labels are recognized.*{name} {line}"):
            recognize(tmp_path / "mine")


# Splits


def test_a_split_is_the_same_whatever_the_order_and_mostly_after_more_images():
    keys = [f"folder/{index}" for index in range(100)]
    train, val = split_keys(keys)
    assert len(val) == 20 and sorted([*train, *val]) == sorted(keys)
    assert set(split_keys(keys[::-1])[1]) == set(val)
    more = set(split_keys([*keys, *(f"new/{index}" for index in range(5))])[1])
    assert len(more & set(val)) >= 15
    assert [len(part) for part in split_keys(keys[:2])] == [1, 1]
    with pytest.raises(ValueError, match="1 labeled images cannot be split"):
        split_keys(keys[:1])


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_validation_is_split_off_and_the_line_says_so(tmp_path, task):
    cvat(tmp_path / "mine")
    data, line = with_validation(recognize(tmp_path / "mine", task), task)
    assert "has no validation images: 1 of 6 are split off" in line
    found = {part: samples(data, part, task, tmp_path) for part in ("train", "val")}
    assert len(found["train"]) == 5 and len(found["val"]) == 1 and not found["train"].keys() & found["val"].keys()
    assert with_validation(data, task) == (data, "")
