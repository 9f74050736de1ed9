"""DetectionDataset on COCO and LVIS files: what it gives, how it splits classes, what it refuses."""

import json
import pickle
import unicodedata

import numpy as np
import pytest
import torch
from coco_folder import NAMES, SIZE, box_annotation, coco_content, write_coco
from pycocotools import mask as coco_mask

from openvocab.datasets.detection import DetectionDataset
from openvocab.images.image_io import BadSample
from openvocab.vocabulary.class_lists import class_names_path, load_frequencies, load_split
from openvocab.vocabulary.vocabulary import read_class_names


def _dataset(folder, content=None, **arguments) -> DetectionDataset:
    write_coco(folder, content)
    return DetectionDataset("images", "labels.json", root=folder, **arguments)


def _instances(dataset) -> dict:
    """Objects by image id."""
    return {item["sample"].sample_id: item["sample"].instances for item in (dataset[i] for i in range(len(dataset)))}


def test_three_arguments_are_enough(tmp_path):
    path = write_coco(tmp_path)
    dataset = DetectionDataset(tmp_path / "images", path, ["dog", "cat", "traffic light"])
    item = dataset[0]
    sample = item["sample"]
    assert item["image"].shape == (3, *SIZE)
    assert (sample.sample_id, sample.original_size, sample.input_size) == ("11", SIZE, SIZE)
    assert sample.vocabulary.class_names == ("dog", "cat", "traffic light")
    assert sample.instances.boxes.tolist() == [[5, 6, 25, 16], [30, 20, 55, 35]]
    assert sample.instances.boxes.dtype == torch.float32
    assert sample.instances.classes.tolist() == [1, 0]
    assert sample.instances.ids.tolist() == [100, 102]
    assert sample.instances.masks is None and sample.instances.is_crowd is None and sample.federated is None
    assert dataset.metainfo["category_ids"] == [7, 3, 20]


def test_without_a_list_the_classes_are_the_categories_in_the_order_of_their_ids(tmp_path):
    content = coco_content()
    content["categories"].reverse()
    dataset = _dataset(tmp_path, content)
    assert dataset.vocabulary.class_names == ("cat", "dog", "traffic light")
    assert _instances(dataset)["12"].classes.tolist() == [2, 1]


def test_categories_match_any_synonym_or_an_id(tmp_path):
    dataset = _dataset(tmp_path, classes=[["puppy", "Dog"], ["kitten", "cat"], "traffic light"])
    assert _instances(dataset)["11"].classes.tolist() == [1, 0]
    dataset = _dataset(tmp_path, classes=["a", "b", "c"], labels=dict(category_ids=[20, 7, 3]))
    assert _instances(dataset)["11"].classes.tolist() == [2, 1]
    dataset = _dataset(tmp_path, classes=["a", "b"], labels=dict(category_ids={7: 1, 3: 1, 20: 0}))
    assert _instances(dataset)["11"].classes.tolist() == [1, 1]
    with pytest.raises(ValueError, match="category_ids: expected 2, one per class, got 1"):
        len(_dataset(tmp_path, classes=["a", "b"], labels=dict(category_ids=[3])))
    with pytest.raises(ValueError, match="category_ids: expected a list of whole numbers, got 3"):
        len(_dataset(tmp_path, classes=["a"], labels=dict(category_ids=3)))


@pytest.mark.parametrize("with_sizes", [True, False])
def test_images_are_found_however_their_accents_are_coded(tmp_path, with_sizes):
    composed, apart = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    content = coco_content()
    path = write_coco(tmp_path, content)
    (tmp_path / "images" / apart).mkdir()
    for image, stored in zip(content["images"], (f"{apart}/{apart}.jpg", f"{apart}/{composed}2.jpg")):
        (tmp_path / "images" / image["file_name"]).rename(tmp_path / "images" / stored)
        image["file_name"] = unicodedata.normalize("NFC", stored)
        if not with_sizes:
            del image["height"]
    path.write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "keys.txt").write_text(f"{composed}/{composed}\n{apart}2\n", encoding="utf-8")
    dataset = DetectionDataset(tmp_path / "images", path, keys=tmp_path / "keys.txt")
    assert [dataset[index]["image"].shape for index in range(2)] == [(3, *SIZE)] * 2


def test_names_of_a_split_are_compared_as_all_names_are(tmp_path):
    (tmp_path / "split.json").write_text('{"seen": ["Dog", "CAT"], "unseen": ["Traffic_Light"]}')
    dataset = _dataset(
        tmp_path, classes=["dog", "cat", "traffic light"], class_options=dict(unseen=str(tmp_path / "split.json"))
    )
    assert dataset.vocabulary.seen == (True, True, False)
    (tmp_path / "split.json").write_text('{"seen": ["dog", "cat"], "unseen": ["Dog", "traffic light"]}')
    with pytest.raises(ValueError, match="lists 'dog' as seen and as unseen"):
        len(
            _dataset(
                tmp_path,
                classes=["dog", "cat", "traffic light"],
                class_options=dict(unseen=str(tmp_path / "split.json")),
            )
        )


def test_images_without_objects_are_left_out_in_training_and_kept_at_evaluation(tmp_path, logged):
    assert list(_instances(_dataset(tmp_path))) == ["11", "12"]
    line = logged[0].getMessage()
    assert "2 images without objects dropped" in line and "1 of them crowds" in line
    for dataset in (_dataset(tmp_path, test_mode=True), _dataset(tmp_path, keep_empty=True)):
        found = _instances(dataset)
        assert list(found) == ["11", "12", "13", "14"]
        assert found["13"].is_crowd.tolist() == [True]
        assert found["14"].boxes.shape == (0, 4) and found["14"].classes.shape == (0,)


def test_masks_are_those_of_pycocotools(tmp_path):
    content = coco_content()
    content["annotations"][0]["segmentation"] = [[5.1, 6.2, 24.73, 7.1, 15.4, 15.9], [1, 1, 3, 1]]
    runs = coco_mask.encode(np.asfortranarray(np.eye(*SIZE, dtype=np.uint8)))
    content["annotations"][2]["segmentation"] = {"size": list(SIZE), "counts": runs["counts"].decode()}
    content["annotations"][4]["segmentation"] = {"size": list(SIZE), "counts": [7, 30, SIZE[0] * SIZE[1] - 37]}
    found = _instances(_dataset(tmp_path, content, with_masks=True, test_mode=True))
    triangle = coco_mask.decode(coco_mask.frPyObjects([[5.1, 6.2, 24.73, 7.1, 15.4, 15.9]], *SIZE))[..., 0]
    assert found["11"].masks.dtype == torch.bool and found["11"].masks.shape == (2, *SIZE)
    assert np.array_equal(found["11"].masks[0], triangle)
    assert np.array_equal(found["11"].masks[1], np.eye(*SIZE))
    assert found["13"].masks.sum() == 30 and found["13"].masks[0].T.flatten()[7:37].all()
    assert found["14"].masks.shape == (0, *SIZE)


def test_a_novel_class_never_reaches_training(tmp_path, logged):
    (tmp_path / "split.json").write_text('{"base": ["cat"], "novel": ["dog"]}')
    dataset = _dataset(
        tmp_path, class_options=dict(unseen="split.json", train_classes="seen"), with_masks=True, keep_empty=True
    )
    assert dataset.vocabulary.class_names == ("cat",) and dataset.vocabulary.seen == (True,)
    assert set(dataset.table.ids.tolist()) == {100, 104}
    assert all((instances.classes == 0).all() for instances in _instances(dataset).values())
    assert "2 objects of unseen classes dropped" in logged[0].getMessage()
    # a traffic light is neither base nor novel
    assert "1 objects of categories that are not classes dropped" in logged[0].getMessage()
    evaluation = _dataset(tmp_path, class_options=dict(unseen="split.json"), test_mode=True)
    assert evaluation.vocabulary.class_names == ("cat", "dog") and evaluation.vocabulary.seen == (True, False)
    assert set(evaluation.table.ids.tolist()) == {100, 102, 103, 104}


def test_unseen_names_may_stay_without_their_labels(tmp_path):
    (tmp_path / "split.json").write_text('{"base": ["cat"], "novel": ["dog"]}')
    dataset = _dataset(
        tmp_path, class_options=dict(unseen="split.json", train_classes="seen_labels"), with_masks=True, keep_empty=True
    )
    assert dataset.vocabulary.class_names == ("cat", "dog") and dataset.vocabulary.seen == (True, False)
    assert set(dataset.table.ids.tolist()) == {100, 104} and not dataset.table.classes.any()


def test_classes_without_objects_are_named_but_not_those_that_are_held_out(tmp_path, logged):
    """The only cat of image 13 is a crowd, which nothing is learned from."""
    (tmp_path / "split.json").write_text('{"novel": ["dog"]}')
    (tmp_path / "part.txt").write_text("12\n13\n")
    class_options = dict(unseen="split.json")
    options = dict(classes=["cat", "dog", "traffic_light", "cow"], keys="part.txt")
    len(_dataset(tmp_path, class_options=dict(train_classes="seen_labels", **class_options), **options))
    len(_dataset(tmp_path, class_options=class_options, test_mode=True, **options))
    len(_dataset(tmp_path))
    assert [record.levelname for record in logged] == ["WARNING", "WARNING", "INFO"]
    for record in logged[:2]:
        assert "2 classes have no objects: cat, cow" in record.getMessage()


def test_a_file_that_is_two_images_is_said(tmp_path, logged):
    content = coco_content()
    content["images"][1]["file_name"] = "11.jpg"
    len(_dataset(tmp_path, content))
    assert "1 files are listed as several images; the first is 11.jpg" in logged[0].getMessage()


def test_an_id_is_one_class(tmp_path):
    with pytest.raises(ValueError, match="category_ids: id 3 is given for two classes"):
        len(_dataset(tmp_path, classes=["cat", "dog"], labels=dict(category_ids=[3, 3], unlisted_ids="ignore")))


def test_names_are_the_same_texts_from_every_kind_of_file(tmp_path):
    """An underscore of a COCO category, a data.yaml, a names file, an XML file or a list is a space."""
    coco = _dataset(tmp_path).vocabulary
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/11.txt").write_text("2 .5 .5 .2 .2\n")
    (tmp_path / "data.yaml").write_text("names: [cat, dog, traffic_light]\n")
    (tmp_path / "names.txt").write_text("cat\ndog\ntraffic_light\n")
    for classes in ("data.yaml", "names.txt", ["cat", "dog", "traffic_light"]):
        assert DetectionDataset("images", "labels", classes, root=tmp_path).vocabulary == coco
    (tmp_path / "voc").mkdir()
    edges = "".join(f"<{edge}>{n}</{edge}>" for edge, n in zip(("xmin", "ymin", "xmax", "ymax"), (1, 1, 9, 9)))
    objects = "".join(f"<object><name>{name}</name><bndbox>{edges}</bndbox></object>" for name in NAMES.values())
    (tmp_path / "voc/11.xml").write_text(f"<annotation>{objects}</annotation>")
    assert DetectionDataset("images", "voc", root=tmp_path).vocabulary == coco


def test_unseen_names_alone_leave_no_class_out(tmp_path):
    dataset = _dataset(tmp_path, class_options=dict(unseen=["dog"], train_classes="seen"))
    assert dataset.vocabulary.class_names == ("cat", "traffic light")
    assert {100, 101} == set(dataset.table.ids.tolist())


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ('{"novel": ["dgo"]}', "1 names of split.json are not among the 3 class names; the first is 'dgo'"),
        ('{"base": ["cat", "cow"], "novel": ["dog"]}', "the first is 'cow'"),
        ('{"base": ["cat", "dog"], "novel": ["dog"]}', "lists 'dog' as seen and as unseen"),
        ('{"base": ["cat"]}', "has neither 'unseen' nor 'novel'"),
        ('{"novel": ["cat", "dog", "traffic light"]}', "no class is left for training"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(tmp_path, split, message):
    (tmp_path / "split.json").write_text(split)
    with pytest.raises(ValueError, match=message):
        len(_dataset(tmp_path, class_options=dict(unseen="split.json", train_classes="seen")))


def test_arguments_are_checked(tmp_path):
    with pytest.raises(ValueError, match="^class_options.train_classes: 'seen' needs class_options.unseen: the names"):
        DetectionDataset("a", "b", class_options=dict(train_classes="seen"))
    with pytest.raises(ValueError, match="unlisted_ids: expected one of"):
        DetectionDataset("a", "b", labels=dict(unlisted_ids="skip"))
    with pytest.raises(FileNotFoundError, match="images: no folder"):
        len(DetectionDataset(tmp_path / "nowhere", "b"))
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError, match="annotations: no file"):
        len(DetectionDataset(tmp_path / "images", tmp_path / "labels.json"))


def test_categories_that_are_no_class_are_an_error_unless_ignored(tmp_path, logged):
    with pytest.raises(ValueError, match="1 of the file's 3 categories are not classes, such as 'traffic_light'"):
        len(_dataset(tmp_path, classes=["cat", "dog"]))
    dataset = _dataset(tmp_path, classes=["cat", "dog", "cow"], labels=dict(unlisted_ids="ignore"))
    assert _instances(dataset)["12"].classes.tolist() == [1]
    assert "1 classes have no category in the file" in logged[-1].getMessage()
    assert dataset.metainfo["category_ids"] == [3, 7, None]


def test_unusable_boxes_are_dropped_counted_and_said_in_one_line(tmp_path, logged):
    content = coco_content()
    bad = [[5, 5, 0, 3], [5, 5, 3, -2], [float("nan"), 1, 2, 3], [1, 1, float("inf"), 4], [70, 5, 9, 9], [-9, 3, 9, 9]]
    content["annotations"] += [
        {**box_annotation(11, 3, box), "segmentation": [], "id": 900 + i} for i, box in enumerate(bad)
    ]
    found = _instances(_dataset(tmp_path, content))
    assert found["11"].ids.tolist() == [100, 102]
    assert len(logged) == 1
    assert "2 boxes of zero or negative size dropped (the first is annotation 900 of 11.jpg)" in logged[0].getMessage()
    assert "2 boxes with coordinates that are not finite dropped (the first is annotation 902" in logged[0].getMessage()
    assert "2 boxes entirely outside their image dropped (the first is annotation 904" in logged[0].getMessage()


def test_boxes_that_stick_out_are_clipped_and_counted(tmp_path, logged):
    content = coco_content()
    content["annotations"][0]["bbox"] = [-5, 30, 20, 300]
    content["annotations"][1]["bbox"] = [30, 2, 8, 38.005]  # rounding
    assert _instances(_dataset(tmp_path, content))["11"].boxes[0].tolist() == [0, 30, 15, 40]
    assert "1 boxes that extend beyond their image are clipped (the first is annotation 100" in logged[0].getMessage()
    assert logged[0].levelname == "INFO" and "most boxes" not in logged[0].getMessage()


def test_two_corners_in_the_place_of_a_size_are_suspected(tmp_path, logged):
    content = coco_content()
    for entry in content["annotations"][:3]:
        entry["bbox"] = [30, 20, 50, 35]
    len(_dataset(tmp_path, content))
    assert (
        logged[0].levelname == "WARNING" and "most boxes extend beyond their image: are they" in logged[0].getMessage()
    )


@pytest.mark.parametrize("value", [1, True, "1", "true", 1.0])
def test_a_file_of_crowds_only_is_warned_of(tmp_path, logged, value):
    content = coco_content()
    for entry in content["annotations"]:
        entry["iscrowd"] = value
    assert _dataset(tmp_path, content, test_mode=True).table.is_crowd.all()
    assert logged[0].levelname == "WARNING" and "all objects are crowds" in logged[0].getMessage()


def test_values_count_whatever_type_they_are_written_in(tmp_path):
    content, plain = coco_content(), _dataset(tmp_path, test_mode=True).table
    for entry in content["images"]:
        entry |= {"id": float(entry["id"]), "height": str(entry["height"]), "width": float(entry["width"])}
        entry["neg_category_ids"] = [7.0]
    for entry in content["categories"]:
        entry["id"] = float(entry["id"])
    for number, entry in enumerate(content["annotations"]):
        kind = float if number % 2 else str
        entry |= {key: kind(entry[key]) for key in ("id", "image_id", "category_id")}
        entry |= {"bbox": [kind(value) for value in entry["bbox"]], "iscrowd": str(entry.get("iscrowd", 0))}
    written = _dataset(tmp_path, content, test_mode=True)
    for name in ("boxes", "classes", "is_crowd", "ids"):
        assert np.array_equal(getattr(written.table, name), getattr(plain, name))
    samples = [written[index]["sample"] for index in range(4)]
    assert [sample.sample_id for sample in samples] == ["11", "12", "13", "14"]
    assert samples[2].federated.negative == (1,)


@pytest.mark.parametrize("name", ["", "  ", "\u200b"])
@pytest.mark.parametrize("classes", [None, ["cat", "dog", "traffic light"]])
def test_a_category_without_a_name_is_refused_with_its_id(tmp_path, name, classes):
    content = coco_content()
    content["categories"][1]["name"] = name
    with pytest.raises(ValueError, match=r"labels\.json: category 7 has an empty name .* give it one"):
        len(_dataset(tmp_path, content, classes=classes))


def test_ids_of_some_annotations_only_are_refused(tmp_path):
    content = coco_content()
    for place in (1, 3):
        content["annotations"][place].pop("id")
    with pytest.raises(ValueError, match=r"2 of 5 annotations have no id; the first is annotation 1 \(from 0\); give"):
        len(_dataset(tmp_path, content))


def test_boxes_as_shares_of_the_image_are_refused_by_what_most_are(tmp_path):
    content, (height, width) = coco_content(), SIZE
    content["annotations"][0]["bbox"] = [0, 0, 1, 1]  # a pixel
    assert len(_dataset(tmp_path, content)) == 2
    for annotation in content["annotations"][1:]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x / width, y / height, w / width, h / height]
    with pytest.raises(ValueError, match=r"labels\.json: 5 of 5 boxes lie within 0..1, .* multiply them by width"):
        len(_dataset(tmp_path, content))


def test_a_mask_beside_its_box_is_no_object(tmp_path, logged):
    content = coco_content()
    content["annotations"][0]["segmentation"] = [[40, 20, 50, 20, 50, 30]]  # of the box 5 6 25 16
    content["annotations"][1]["segmentation"] = [[38.5, 2, 50, 2, 50, 30]]  # begins where the box 30 2 38 32 ends
    assert len(_dataset(tmp_path, content).table.ids) == 5 - 1
    assert _dataset(tmp_path, content, with_masks=True).table.ids.tolist() == [102, 101, 103]
    assert (
        "1 boxes whose mask lies outside of them dropped (the first is annotation 100 of 11.jpg)"
        in logged[1].getMessage()
    )


@pytest.mark.parametrize("name", [True, None, ["cat"]])
def test_a_name_that_is_no_text_is_refused(tmp_path, name):
    content = coco_content()
    content["categories"][1]["name"] = name
    with pytest.raises(ValueError, match=r"labels\.json: expected a string as the name of category 7, got"):
        len(_dataset(tmp_path, content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iscrowd": 2}, "iscrowd: expected 0 or 1, or true or false, got 2"),
        ({"iscrowd": "maybe"}, "iscrowd: expected 0 or 1, or true or false, got 'maybe'"),
        ({"image_id": True}, "image_id: expected a whole number, got True"),
        ({"image_id": 11.5}, "image_id: expected a whole number, got 11.5"),
        ({"category_id": None}, "category_id: expected a whole number, got None"),
        ({"id": "first"}, "id: expected a whole number, got 'first'"),
        ({"bbox": [1, 2, True, 4]}, "bbox: expected a number, got True"),
        ({"bbox": [1, 2, "3,5", 4]}, "bbox: expected a number, got '3,5'"),
        ({"bbox": None}, "bbox: expected 4 numbers, got None"),
        ({"segmentation": [["a", 2, 3, 4, 5, 6]]}, "segmentation: a polygon is a flat list"),
        ({"segmentation": [[1, 2, 3, 4, 5]]}, "segmentation: a polygon is a flat list"),
        ({"segmentation": {"size": [40, 60], "counts": [True, 2399]}}, "segmentation: expected counts in pixels"),
    ],
)
def test_a_value_that_is_none_of_its_kind_is_named_with_its_annotation(tmp_path, change, message):
    content = coco_content()
    content["annotations"][1] |= change
    with pytest.raises(ValueError) as error:
        len(_dataset(tmp_path, content, with_masks=True))
    assert f"labels.json: annotation 1 (from 0) is not in COCO's format: {message}" in str(error.value)


def test_a_root_category_of_an_export_is_left_out(tmp_path, logged):
    """Of exports of Roboflow: the first category is the project, and may be called like a class."""
    content = coco_content()
    for entry in content["categories"]:
        entry["supercategory"] = "dog"
    content["categories"].insert(0, {"id": 0, "name": "dog", "supercategory": "none"})
    dataset = _dataset(tmp_path, content)
    assert dataset.vocabulary.class_names == ("cat", "dog", "traffic light")
    assert dataset.metainfo["category_ids"] == [3, 7, 20]
    assert "category 'dog' (id 0), the parent of all others, has no objects: dropped" in logged[0].getMessage()
    named = _dataset(tmp_path, content, classes=["dog", "cat", "traffic light"])
    assert named.metainfo["category_ids"] == [7, 3, 20]


def _with_root(number_of_objects: int, spelling: str = "thing") -> dict:
    content = coco_content()
    for entry in content["categories"]:
        entry["supercategory"] = spelling
    content["categories"].insert(0, {"id": 0, "name": "thing", "supercategory": "none"})
    for annotation in content["annotations"][:number_of_objects]:
        annotation["category_id"] = 0
    return content


def test_two_files_of_one_data_set_have_one_vocabulary_or_are_refused(tmp_path):
    """Whether a root is a class may not depend on which objects a file holds."""
    names = ["thing", "cat", "dog", "traffic light"]
    for spelling in ("thing", "Thing", "thing "):
        assert _dataset(tmp_path, _with_root(0, spelling)).vocabulary.class_names == ("cat", "dog", "traffic light")
    with pytest.raises(ValueError, match=r"'thing' \(id 0\), the parent of all others, has 2 objects: give `classes`"):
        len(_dataset(tmp_path, _with_root(2)))
    with pytest.raises(ValueError, match="1 of the file's 4 categories are not classes, such as 'thing'"):
        len(_dataset(tmp_path, _with_root(2), classes=names[1:]))
    for count in (0, 2):
        dataset = _dataset(tmp_path, _with_root(count), classes=names)
        assert dataset.metainfo["category_ids"] == [0, 3, 7, 20]
        assert dataset.table.classes.tolist().count(0) == count


def test_the_parent_of_some_categories_is_a_class_with_or_without_objects(tmp_path):
    content = coco_content()
    content["categories"][0]["supercategory"] = "pet"
    content["categories"].append({"id": 21, "name": "pet", "supercategory": "none"})
    assert _dataset(tmp_path, content).vocabulary.class_names == ("cat", "dog", "traffic light", "pet")


def test_a_parent_with_objects_and_a_category_that_is_its_own_parent_are_classes(tmp_path):
    content = coco_content()
    content["categories"][0]["supercategory"] = "dog"  # of the cat; a dog has objects
    content["categories"].append({"id": 21, "name": "person", "supercategory": "person"})
    assert _dataset(tmp_path, content).vocabulary.class_names == ("cat", "dog", "traffic light", "person")


def test_names_are_told_apart_only_where_they_are_matched(tmp_path):
    content = _spoil(coco_content(), "name twice")
    with pytest.raises(ValueError, match=r"the category name 'dog' 2 times, with the ids \[7, 8\].* give category_ids"):
        len(_dataset(tmp_path, content, classes=["cat", "dog", "traffic light"]))
    by_id = _dataset(
        tmp_path, content, classes=["cat", "dog", "light"], labels=dict(category_ids={3: 0, 7: 1, 8: 1, 20: 2})
    )
    assert _instances(by_id)["11"].classes.tolist() == [0, 1]
    others = _dataset(tmp_path, content, classes=["cat"], labels=dict(unlisted_ids="ignore"))
    assert _instances(others)["11"].classes.tolist() == [0]


def test_names_that_differ_in_case_alone_are_not_merged(tmp_path):
    content = _spoil(coco_content(), "name twice")
    next(one for one in content["categories"] if one["id"] == 8)["name"] = "DOG"
    with pytest.raises(ValueError, match=r"the category name 'dog' and 'DOG' 2 times, with the ids \[7, 8\]"):
        len(_dataset(tmp_path, content, classes=["cat", "dog", "traffic light"]))
    synonyms = _dataset(tmp_path, coco_content(), classes=["cat", ["dog", "traffic light"]])
    assert _instances(synonyms)["11"].classes.tolist() == [0, 1]


EMPTY_MASKS = {
    "beside the image": [[70, 5, 80, 5, 80, 9, 70, 9]],
    "on a line": [[5, 5, 20, 20, 10, 10]],
    "within a pixel": [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]],
    "there and back": [[5, 5, 25, 5, 25, 15, 25, 5]],
    "runs of nothing": {"size": list(SIZE), "counts": [SIZE[0] * SIZE[1]]},
}


@pytest.mark.parametrize("segmentation", EMPTY_MASKS.values(), ids=EMPTY_MASKS)
def test_masks_without_a_pixel_are_no_objects(tmp_path, logged, segmentation):
    content = coco_content()
    content["annotations"][0]["segmentation"] = segmentation
    found = _instances(_dataset(tmp_path, content, with_masks=True, test_mode=True))
    assert found["11"].ids.tolist() == [102] and found["11"].masks.flatten(1).any(1).all()
    assert (
        "1 boxes whose mask covers no pixel dropped (the first is annotation 100 of 11.jpg)" in logged[0].getMessage()
    )
    assert logged[0].levelname == "WARNING"
    assert _instances(_dataset(tmp_path, content))["11"].ids.tolist() == [100, 102]  # as a box it is one


def test_areas_of_the_file_stay_with_their_objects(tmp_path):
    content = coco_content()
    for number, entry in enumerate(content["annotations"][:-1]):
        entry["area"] = 7 * number
    found = _instances(_dataset(tmp_path, content, test_mode=True))
    assert found["11"].areas.tolist() == [0, 14] and found["12"].areas.tolist() == [7, 21]
    assert found["11"].areas.dtype == torch.float64
    assert found["13"].areas is None and found["14"].areas is None


def test_a_box_that_single_precision_makes_empty_is_outside(tmp_path, logged):
    content = coco_content()
    content["annotations"][0]["bbox"] = [59.9999999999, 5, 10, 10]
    assert _instances(_dataset(tmp_path, content))["11"].ids.tolist() == [102]
    assert "1 boxes entirely outside" in logged[0].getMessage()


def test_the_log_warns_only_where_something_is_wrong(tmp_path, logged):
    content = coco_content()
    content["annotations"][0]["bbox"] = [1, 1, 0, 0]
    len(_dataset(tmp_path))
    len(_dataset(tmp_path, content))
    assert [record.levelname for record in logged] == ["INFO", "WARNING"]


def _spoil(content, what):
    images, annotations, categories = content["images"], content["annotations"], content["categories"]
    match what:
        case "image twice":
            images.append({**images[0], "file_name": "x.jpg"})
        case "annotation twice":
            annotations.append(dict(annotations[1]))
        case "category twice":
            categories.append({"id": 7, "name": "cow"})
        case "name twice":
            categories.append({"id": 8, "name": "dog"})
        case "missing image":
            annotations[1]["image_id"] = 99
        case "missing category":
            annotations[1]["category_id"] = 99
        case "no images":
            del content["images"]
        case "no box":
            del annotations[1]["bbox"]
        case "box of three":
            annotations[1]["bbox"] = [1, 2, 3]
        case "box of words":
            annotations[1]["bbox"] = ["a", 2, 3, 4]
        case "image without name":
            del images[0]["file_name"]
        case "image id of letters":
            images[0]["id"] = "eleven"
        case "category id of letters":
            content["categories"][0]["id"] = "one"
        case "runs of another size":
            annotations[1]["segmentation"] = {"size": [30, 60], "counts": [1800]}
        case "runs too long":
            annotations[1]["segmentation"] = {"size": [40, 60], "counts": [3000]}
        case "odd polygon":
            annotations[1]["segmentation"] = [[1, 2, 3, 4, 5, 6, 7]]
        case "masks nowhere":
            for annotation in annotations:
                annotation.pop("segmentation")
    return content


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("image twice", "1 image ids are given more than once; the first is 11"),
        ("annotation twice", "1 annotation ids are given more than once; the first is 101"),
        ("category twice", "1 category ids are given more than once; the first is 7"),
        ("name twice", "its categories as classes: name 'dog' is given twice"),
        (
            "missing image",
            "1 annotations are of a image that the file does not list; .* annotation 101 with image_id 99",
        ),
        ("missing category", "annotation 101 with category_id 99. Remove them or add the category"),
        ("no images", "a COCO file has images, annotations, categories; images are missing"),
        ("no box", r"annotation 1 \(from 0\) is not in COCO's format: no 'bbox'"),
        ("box of three", r"is not in COCO's format: bbox: expected 4 numbers, got \[1, 2, 3\]"),
        ("box of words", r"annotation 1 \(from 0\) is not in COCO's format: bbox: expected a number, got 'a'"),
        ("image without name", "image 11 has no string under 'file_name' or 'coco_url'"),
        ("image id of letters", "labels.json: image id: expected a whole number, got 'eleven'"),
        ("category id of letters", "labels.json: category id: expected a whole number, got 'one'"),
        ("runs of another size", r"1 run-length encodings do not have the size .* annotation 101, 30x60 .*40x60"),
        ("runs too long", "runs of 3000 pixels in all, for a mask of 40x60"),
        ("odd polygon", "a polygon is a flat list"),
        ("masks nowhere", "no object of labels.json has a segmentation: 5 have a box only; use with_masks=False"),
    ],
)
def test_a_broken_file_is_refused_in_one_clear_line(tmp_path, what, message):
    with pytest.raises(ValueError, match=message) as error:
        len(_dataset(tmp_path, _spoil(coco_content(), what), with_masks=True))
    assert "\n" not in str(error.value)


def test_without_masks_segmentations_are_not_looked_at(tmp_path):
    for what in ("runs of another size", "odd polygon", "masks nowhere"):
        assert len(_dataset(tmp_path, _spoil(coco_content(), what))) == 2


def test_an_object_without_mask_is_dropped_where_masks_are_wanted(tmp_path, logged):
    content = coco_content()
    content["annotations"][0]["segmentation"] = []
    content["annotations"][2]["segmentation"] = [[1, 1, 2, 2]]  # two corners have no area
    dataset = _dataset(tmp_path, content, with_masks=True)
    assert list(_instances(dataset)) == ["12"]
    assert "2 boxes without a mask dropped (the first is annotation 100 of 11.jpg)" in logged[0].getMessage()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"images": [', '{"images": [1 2]}', "not json"])
def test_what_is_not_json_is_refused(tmp_path, text):
    write_coco(tmp_path).write_text(text)
    with pytest.raises(ValueError, match="labels.json"):
        len(DetectionDataset(tmp_path / "images", tmp_path / "labels.json"))


def test_annotations_without_ids_are_numbered_and_sizes_are_read_from_the_images(tmp_path):
    content = coco_content()
    for entry in content["annotations"]:
        del entry["id"]
    for entry in content["images"]:
        del entry["height"]
    dataset = _dataset(tmp_path, content)
    assert _instances(dataset)["11"].ids.tolist() == [1, 3]
    assert dataset.aspect_ratios.tolist() == [1.5, 1.5]


def test_an_image_of_another_size_than_its_annotations_is_a_bad_sample(tmp_path):
    content = coco_content()
    content["images"][0]["width"] = 61
    with pytest.raises(BadSample, match="the image is 40x60 .* its annotations state 40x61"):
        _dataset(tmp_path, content)[0]


def test_a_wrong_folder_and_a_missing_image_are_named(tmp_path):
    dataset = _dataset(tmp_path)
    (tmp_path / "images/12.jpg").unlink()
    with pytest.raises(BadSample, match=r"12\.jpg"):
        dataset[1]
    (tmp_path / "images/11.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"images: no file .*11\.jpg, the first of 2 that labels.json lists"):
        len(DetectionDataset("images", "labels.json", root=tmp_path))


def test_keys_choose_images_by_stem_path_or_id(tmp_path):
    (tmp_path / "val.txt").write_text("12\n")
    dataset = _dataset(tmp_path, keys="val.txt", with_masks=True)
    assert list(_instances(dataset)) == ["12"]
    assert _instances(dataset)["12"].ids.tolist() == [101, 103]
    assert dataset[0]["sample"].instances.masks.flatten(1).sum(1).tolist() == [8 * 30, 10 * 12]
    (tmp_path / "val.txt").write_text("12\n77\n")
    with pytest.raises(FileNotFoundError, match="1 of the 2 samples that .* not in labels.json; the first is '77'"):
        len(_dataset(tmp_path, keys="val.txt"))


def test_lvis_lists_of_categories_stay_with_the_image(tmp_path):
    content = coco_content()
    for entry, frequency in zip(content["categories"], "rcf"):
        entry["frequency"] = frequency
    for entry in content["images"]:
        entry.update(neg_category_ids=[20, 3], not_exhaustive_category_ids=[7])
        entry["coco_url"] = f"http://images.cocodataset.org/images/{entry.pop('file_name')}"
    write_coco(tmp_path, content)
    dataset = DetectionDataset(tmp_path, tmp_path / "labels.json")
    assert dataset[0]["sample"].federated.negative == (0, 2)
    assert dataset[0]["sample"].federated.not_exhaustive == (1,)
    assert dataset.metainfo["frequencies"] == ["r", "c", "f"]
    base = DetectionDataset(
        tmp_path, tmp_path / "labels.json", class_options=dict(unseen=["cat"], train_classes="seen")
    )
    assert base[0]["sample"].federated.negative == (1,) and base[0]["sample"].federated.not_exhaustive == (0,)
    assert base.metainfo["frequencies"] == ["c", "f"]


def test_the_data_set_travels_to_loader_workers(tmp_path):
    dataset = _dataset(tmp_path, with_masks=True)
    len(dataset)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[1]["sample"].instances.masks, dataset[1]["sample"].instances.masks)


def test_an_epoch_from_the_cache_equals_one_from_the_files(tmp_path):
    plain, cached = (_dataset(tmp_path, with_masks=True, loading=dict(cache_images=cache)) for cache in (False, True))
    for _ in range(2):
        for one, other in zip(_instances(plain).values(), _instances(cached).values()):
            assert torch.equal(one.boxes, other.boxes) and torch.equal(one.masks, other.masks)


def test_lvis_frequencies_agree_with_their_counts_and_the_split():
    names = [entry[0] for entry in read_class_names(class_names_path("lvis_1203"))]
    letters, counts = load_frequencies("lvis_frequencies", names), load_split("lvis_frequencies")["image_counts"]
    assert letters == ["r" if count <= 10 else "c" if count <= 100 else "f" for count in counts]
    assert {name for name, letter in zip(names, letters) if letter == "r"} == set(load_split("lvis_866_337")["novel"])
    assert [letters.count(letter) for letter in "rcf"] == [337, 461, 405]
    with pytest.raises(ValueError, match="1 of 1 classes in none .* 'unicorn'"):
        load_frequencies("lvis_frequencies", ["unicorn"])


def test_coco_of_48_base_classes(shared_data):
    folder = shared_data / "coco_sample"
    unseen, arguments = dict(unseen="coco_48_17"), dict(root=folder, classes="coco_80", with_masks=True)
    train = DetectionDataset(
        "images/train2017",
        "annotations/instances_train100.json",
        class_options=dict(train_classes="seen", **unseen),
        **arguments,
    )
    val = DetectionDataset(
        "images/val2017", "annotations/instances_val100.json", test_mode=True, class_options=unseen, **arguments
    )
    split, raw = load_split("coco_48_17"), json.loads((folder / "annotations/instances_train100.json").read_text())
    base = {entry["id"] for entry in raw["annotations"] if entry["category_id"] in set(split["base_ids"])}
    assert len(train.vocabulary) == 48 and set(train.table.ids.tolist()) == base
    assert len(val.vocabulary) == 65 and sum(val.vocabulary.seen) == 48 and len(val) == 100
    instances = train[0]["sample"].instances
    areas = {entry["id"]: entry["area"] for entry in raw["annotations"]}
    assert instances.masks.flatten(1).sum(1).tolist() == [areas[int(number)] for number in instances.ids]
