"""The columns of images and labels are chosen by their features and names, and nothing is guessed."""

import pytest

from openvocab.own_data.table_columns import TableColumns, choose_columns

IMAGE = {"_type": "Image"}
NUMBER = {"_type": "Value", "dtype": "int64"}
NAMED = {"_type": "ClassLabel", "names": ["cat", "dog"]}


def a_list(feature):
    return {"_type": "List", "feature": feature}


def choose(features, task=None, **given):
    return choose_columns(features, task, given, "data")


@pytest.mark.parametrize("image", ["image", "img", "pixel_values", "Image"])
@pytest.mark.parametrize("label", ["label", "annotation", "segmentation_mask", "mask"])
def test_two_image_columns_of_known_names_are_an_image_and_its_label_map(image, label):
    assert choose({label: IMAGE, image: IMAGE, "scene": NAMED}) == TableColumns(image, label)


@pytest.mark.parametrize(
    "objects",
    [
        {"bbox": a_list(a_list(NUMBER)), "category": a_list(NAMED)},
        a_list({"bbox": a_list(NUMBER), "category": NAMED}),
    ],
)
def test_objects_are_a_structure_of_lists_or_a_list_of_structures(objects):
    found = choose({"photo": IMAGE, "objects": objects, "width": NUMBER})
    assert found == TableColumns("photo", "objects", "bbox", "category", ("cat", "dog"))
    assert found.kind == "boxes"


def test_numbers_without_names_have_none():
    objects = {"bbox": a_list(a_list(NUMBER)), "category": a_list(NUMBER)}
    assert choose({"image": IMAGE, "objects": objects}).names is None


def test_what_the_user_states_comes_first():
    objects = a_list({"bbox": a_list(NUMBER), "box": a_list(NUMBER), "label": NAMED, "kind": NAMED})
    found = choose(
        {"a": IMAGE, "image": IMAGE, "things": objects}, image="a", labels="things", box="box", category="kind"
    )
    assert found == TableColumns("a", "things", "box", "kind", ("cat", "dog"))
    assert choose({"a": IMAGE, "b": IMAGE}, image="b", labels="a") == TableColumns("b", "a")


@pytest.mark.parametrize(
    "features, task, message",
    [
        ({"image": IMAGE, "img": IMAGE, "label": IMAGE}, None, r"may be images in 2 ways, image, img; .*image: NAME"),
        ({"image": IMAGE, "label": IMAGE, "mask": IMAGE}, None, r"label maps in 2 ways, label, mask; .*labels: NAME"),
        (
            {"image": IMAGE, "label": NAMED},
            None,
            r"not recognized as label maps.*image \(Image\), label \(ClassLabel\)",
        ),
        ({"image": IMAGE, "depth": IMAGE}, "segmentation", "not recognized as label maps.*labels: NAME"),
        ({"image": IMAGE, "label": IMAGE}, "detection", "hold label maps, no boxes; .*--head lseg"),
        ({"image": IMAGE, "objects": a_list({"bbox": NUMBER, "label": NAMED})}, "segmentation", "no label maps.*vild"),
        ({"image": IMAGE, "objects": NUMBER}, "detection", "not recognized as objects with a box and a category"),
        ({"text": NUMBER}, None, r"text \(int64\)"),
        ({"image": IMAGE, "a\nb": NUMBER}, None, r"not recognized as label maps"),
        ({}, None, "columns"),
    ],
)
def test_columns_that_are_not_certain_are_listed_with_the_argument_to_give(features, task, message):
    with pytest.raises(ValueError, match=message) as caught:
        choose(features, task)
    assert "\n" not in str(caught.value)


def test_two_fields_of_boxes_are_an_error_that_names_the_key():
    objects = a_list({"bbox": a_list(NUMBER), "boxes": a_list(NUMBER), "label": NAMED})
    with pytest.raises(ValueError, match=r"the boxes in objects in 2 ways, bbox, boxes; .*box: NAME"):
        choose({"image": IMAGE, "objects": objects})


def test_a_stated_column_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="no column 'photo'.*image"):
        choose({"image": IMAGE, "label": IMAGE}, image="photo")
