"""YOLO and Pascal-VOC folders, as users bring them; and the blood cells with their two boxes of no size."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from openvocab.datasets.annotations import yolo as yolo_annotations
from openvocab.datasets.detection import DetectionDataset
from openvocab.images.image_header import read_image_size
from openvocab.images.image_io import BadSample, read_image

XML = """<annotation><filename>{name}.jpg</filename>{objects}</annotation>"""
OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"""


@pytest.fixture
def folder(tmp_path):
    """Three images 50 x 100, one in a folder below, and room for labels."""
    (tmp_path / "images/more").mkdir(parents=True)
    (tmp_path / "labels/more").mkdir(parents=True)
    for name in ("a", "b", "more/c"):
        cv2.imwrite(str(tmp_path / f"images/{name}.jpg"), np.zeros((50, 100, 3), np.uint8))
    return tmp_path


def _write_xml(folder, name: str, *objects: tuple) -> None:
    texts = (OBJECT.format(*box, name=kind, difficult=difficult) for kind, box, difficult in objects)
    (folder / f"labels/{name}.xml").write_text(XML.format(name=name, objects="".join(texts)))


def test_yolo_folder_by_three_arguments(folder, logged):
    (folder / "labels/a.txt").write_text("1 0.5 0.5 0.2 0.4\n\n0 0.1 0.2 0.1 0.2\n")
    (folder / "labels/more/c.txt").write_text("0 0.9 0.5 0.4 0.2\n")
    dataset = DetectionDataset(folder / "images", folder / "labels", ["helmet", "vest"], test_mode=True)
    found = {sample.sample_id: sample.instances for sample in (dataset[i]["sample"] for i in range(3))}
    assert torch.allclose(found["a"].boxes, torch.tensor([[40.0, 15, 60, 35], [5, 5, 15, 15]]))
    assert found["a"].classes.tolist() == [1, 0]
    assert torch.allclose(found["more/c"].boxes, torch.tensor([[70.0, 20, 100, 30]]))  # clipped
    assert found["b"].boxes.shape == (0, 4)
    assert "1 images have no label file and count as images without objects" in logged[0].getMessage()


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_folders_below_a_relative_root_are_found(folder, monkeypatch, kind):
    if kind == "yolo":
        (folder / "labels/more/c.txt").write_text("0 0.5 0.5 0.2 0.4")
    else:
        _write_xml(folder, "more/c", ("helmet", (40, 15, 60, 35), 0))
    monkeypatch.chdir(folder.parent)
    dataset = DetectionDataset("images", "labels", ["helmet"], root=folder.name)
    assert torch.allclose(dataset[0]["sample"].instances.boxes, torch.tensor([[40.0, 15, 60, 35]]))


def test_yolo_polygons_are_masks_and_data_yaml_gives_names(folder):
    (folder / "labels/a.txt").write_text("4 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n")
    (folder / "data.yaml").write_text("names:\n  2: vest\n  4: helmet\n")  # numbers with holes
    dataset = DetectionDataset("images", "labels", "data.yaml", root=folder, with_masks=True)
    instances = dataset[0]["sample"].instances
    assert dataset.vocabulary.class_names == ("vest", "helmet") and instances.classes.tolist() == [1]
    assert torch.allclose(instances.boxes, torch.tensor([[10.0, 10, 50, 30]]))
    expected = torch.zeros(50, 100, dtype=torch.bool)
    expected[10:30, 10:50] = True
    assert torch.equal(instances.masks[0], expected)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("5 0.5 0.5 0.2 0.4", r"a\.txt:1: class 5 has no name; 2 numbers from 0 to 1 have one"),
        ("0 0.5 0.5 0.2", r"a\.txt:1: expected 'class cx cy width height' .* got 4 fields"),
        ("0 0.5 0.5 0.2 0.2 0.2", "got 6 fields; boxes with keypoints need kpt_shape"),
        ("dog 0.5 0.5 0.2 0.2", "expected a class number and coordinates"),
    ],
)
def test_a_wrong_yolo_line_is_named(folder, line, message):
    (folder / "labels/a.txt").write_text(line)
    with pytest.raises(ValueError, match=message):
        len(DetectionDataset(folder / "images", folder / "labels", ["helmet", "vest"]))


def test_yolo_numbers_count_in_any_spelling(folder):
    (folder / "labels/a.txt").write_text("1.000000 5e-1 .5 0.2 4.0E-1\n0.0 0.5 0.5 0.2 0.4\n")
    table = DetectionDataset(folder / "images", folder / "labels", ["helmet", "vest"]).table
    assert table.classes.tolist() == [1, 0] and np.allclose(table.boxes, [[40, 15, 60, 35]] * 2)


POSE = {
    "1 x 2": (2, "0 0.5 0.5 0.2 0.2 0.55 0.45"),
    "2 x 3": (6, "0 0.5 0.5 0.2 0.2 0.55 0.45 1 0.45 0.55 1"),
    "4 x 3": (12, "0 0.5 0.5 0.2 0.2 0.55 0.45 2 0.45 0.45 2 0.55 0.55 1 0 0 0"),
}


@pytest.mark.parametrize(("count", "line"), POSE.values(), ids=POSE)
def test_keypoints_are_told_from_polygons_by_the_yaml_or_refused(folder, count, line):
    (folder / "labels/a.txt").write_text(f"{line}\n0 0.5 0.5 0.2 0.2\n")
    names, shape = (
        "names: [helmet]\n",
        f"kpt_shape: [{count // (3 if count % 3 == 0 else 2)}, {3 if count % 3 == 0 else 2}]\n",
    )
    (folder / "data.yaml").write_text(names)
    with pytest.raises(ValueError, match=r"a\.txt:1: .* kpt_shape"):
        len(DetectionDataset("images", "labels", "data.yaml", root=folder))
    (folder / "data.yaml").write_text(names + shape)
    table = DetectionDataset("images", "labels", "data.yaml", root=folder).table
    assert np.allclose(table.boxes, [[40, 20, 60, 30]] * 2)
    (folder / "labels/a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5 0.3 0.3 0.2 0.2 0.1 0.1 0.15 0.15")
    with pytest.raises(BadSample, match=rf"a\.txt:1: .* by kpt_shape, {count} values of keypoints, got 15 fields"):
        len(DetectionDataset("images", "labels", "data.yaml", root=folder))


@pytest.mark.parametrize("shape", ["17", "[17]", "[17, 4]", "[a, 3]", "[0, 3]", "{a: 1}"])
def test_a_shape_of_keypoints_that_is_none_is_named(folder, shape):
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "data.yaml").write_text(f"names: [helmet]\nkpt_shape: {shape}\n")
    with pytest.raises(ValueError, match=r"data\.yaml: kpt_shape: expected"):
        len(DetectionDataset("images", "labels", "data.yaml", root=folder))


def _pose(generator, keypoints: int, count: int, beyond: float = 0.0, closing: bool = False) -> list[str]:
    """Return lines of boxes, which reach out of the image by so much at most, and of keypoints in them."""
    sides = generator.uniform(0.05, 0.4, (count, 1, 2))
    centers = np.clip(generator.uniform(-beyond, 1 + beyond, (count, 1, 2)), sides / 2 - beyond, 1 + beyond - sides / 2)
    points = centers + generator.uniform(-0.5, 0.5, (count, keypoints, 2)) * sides
    if closing:
        points[:, -1:] = centers
    values = np.concatenate([centers, sides, points.clip(0, 1)], axis=1).reshape(count, -1)
    return ["0 " + " ".join(f"{value:.6f}" for value in line) for line in values]


POSES = {
    "the last keypoint is the center of the box": [(5, 8, 0.0, True)],
    "boxes beyond the image": [(5, 30, 0.08, False)],
    "two lengths": [(5, 8, 0.0, False), (4, 8, 0.0, False)],
    "four lengths": [(count, 8, 0.0, False) for count in (3, 4, 5, 17)],
    "a single line of each length": [(2, 1, 0.0, False), (3, 1, 0.0, True)],
}


@pytest.mark.parametrize("groups", POSES.values(), ids=POSES)
def test_keypoints_in_their_boxes_are_no_polygons(folder, groups):
    generator = np.random.default_rng(0)
    lines = [line for group in groups for line in _pose(generator, *group)]
    (folder / "labels/a.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"a\.txt:1: .* of {len(lines)} such lines[)]: with_masks=True"):
        len(DetectionDataset(folder / "images", folder / "labels", ["person"]))


def _blobs(generator, corners: int, count: int, place: float = 1.0) -> list[str]:
    """Return lines of polygons, round about points of the image's upper left `place`."""
    turns = np.sort(generator.uniform(0, 2 * np.pi, (count, corners)), axis=1)
    radius = generator.uniform(0.02, 0.08, (count, 1, 1)) * generator.uniform(0.8, 1, (count, corners, 1))
    centers = generator.uniform(0.1, 0.9 * place, (count, 1, 2))
    points = centers + radius * np.stack([np.cos(turns), np.sin(turns)], axis=2)
    return ["0 " + " ".join(f"{value:.6f}" for value in line) for line in points.reshape(count, -1)]


def test_lines_of_keypoints_among_those_of_polygons_are_found(folder):
    generator = np.random.default_rng(0)
    polygons = [line for corners in range(4, 30) for line in _blobs(generator, corners, 4)]
    (folder / "labels/a.txt").write_text("\n".join(polygons))
    assert len(DetectionDataset(folder / "images", folder / "labels", ["person"]).table.ids) == len(polygons)
    (folder / "labels/b.txt").write_text("\n".join(_pose(generator, 17, 6)))
    with pytest.raises(ValueError, match="can be a polygon, or a box that keypoints"):
        len(DetectionDataset(folder / "images", folder / "labels", ["person"]))


def test_a_few_odd_polygons_of_one_length_among_hundreds_are_polygons(folder):
    """Two of three triangles whose second corner lies far off the others, in the middle of the image."""
    generator = np.random.default_rng(0)
    polygons = [line for corners in range(4, 30) for line in _blobs(generator, corners, 12)]
    odd = "0 0.5 0.5 0.1 0.1 0.48 0.52"
    triangles = [odd, odd.replace("0.48", "0.49"), *_blobs(generator, 3, 12)]
    (folder / "labels/a.txt").write_text("\n".join(polygons + triangles))
    dataset = DetectionDataset(folder / "images", folder / "labels", ["person"])
    assert len(dataset.table.ids) == len(polygons) + len(triangles)


def test_polygons_that_all_begin_like_boxes_are_read_by_their_lengths(folder):
    """Of a fixed camera whose objects are small and in the upper left."""
    generator = np.random.default_rng(0)
    polygons = [line for corners in range(4, 12) for line in _blobs(generator, corners, 4, place=0.6)]
    (folder / "labels/a.txt").write_text("\n".join(polygons))
    assert len(DetectionDataset(folder / "images", folder / "labels", ["person"]).table.ids) == len(polygons)


def test_polygons_of_coco_are_told_from_its_boxes(shared_data, folder):
    content = json.loads((shared_data / "coco_sample/annotations/instances_polygons_54.json").read_text())
    sizes = {entry["id"]: (entry["width"], entry["height"]) for entry in content["images"]}
    found = [(np.reshape(entry["segmentation"][0], (-1, 2)) / sizes[entry["image_id"]]).ravel()
             for entry in content["annotations"] if isinstance(entry["segmentation"], list)]  # fmt: skip
    for start in range(0, len(found), 50):
        lines = ["0 " + " ".join(map(str, corners)) for corners in found[start : start + 50]]
        (folder / "labels/a.txt").write_text("\n".join(lines))
        assert len(DetectionDataset(folder / "images", folder / "labels", ["thing"]).table.ids) > 0.9 * len(lines)


@pytest.mark.parametrize("line", ["0 320 240 100 80", "0 0.5 0.5 100 80", "0 -3 0.5 0.2 0.2", "0 0.5 0.5 0.2 2.5"])
def test_pixels_in_the_place_of_shares_are_refused(folder, line):
    (folder / "labels/a.txt").write_text(f"0 0.5 0.5 0.2 0.2\n{line}\n")
    with pytest.raises(
        BadSample, match=r"a\.txt:2: expected .* as fractions of the image in 0..1, got .*; divide pixels"
    ):
        len(DetectionDataset(folder / "images", folder / "labels", ["helmet"]))


TRACKS = {"id above 1": "0.93 7", "id 1": "0.93 1", "id first": "12 0.5"}


@pytest.mark.parametrize("columns", TRACKS.values(), ids=TRACKS)
def test_what_a_tracker_adds_to_boxes_is_no_polygon(folder, columns):
    (folder / "labels/a.txt").write_text(f"0 0.5 0.5 0.2 0.2 {columns}\n1 0.3 0.4 0.1 0.2 {columns}\n")
    (folder / "labels/b.txt").write_text(f"0 0.6 0.5 0.2 0.2 {columns}\n")
    with pytest.raises(ValueError, match=r"a\.txt:1: 7 fields .* cut off other columns"):
        len(DetectionDataset(folder / "images", folder / "labels", ["helmet", "vest"]))


POLYGONS = {
    "corners of different number": "0 0.4 0.4 0.6 0.4 0.5 0.6\n0 0.4 0.4 0.6 0.4 0.6 0.6 0.5 0.7 0.4 0.6\n",
    "a first edge that is no box": "0 0.1 0.1 0.5 0.1 0.5 0.5\n",
    "a rectangle": "0 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6\n",
    "a turned rectangle": "0 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5\n",
    "closed": "0 0.4 0.4 0.6 0.4 0.65 0.6 0.5 0.7 0.4 0.6 0.4 0.4\n",
    "a little beyond the image": "0 0.9 0.9 1.02 0.9 1.02 1.02\n",
}


@pytest.mark.parametrize("text", POLYGONS.values(), ids=POLYGONS)
def test_polygons_are_read_where_the_lines_can_be_nothing_else(folder, text):
    (folder / "labels/a.txt").write_text(text)
    table = DetectionDataset(folder / "images", folder / "labels", ["helmet"]).table
    corners = [np.array(line.split()[1:], float).reshape(-1, 2) * (100, 50) for line in text.splitlines()]
    expected = np.array([[*points.min(0), *points.max(0)] for points in corners])
    assert np.allclose(table.boxes, expected.clip(max=(100, 50, 100, 50)), atol=1e-4)


def test_polygons_that_can_be_boxes_are_read_where_masks_are_wanted(folder):
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.2 0.6 0.2\n")
    with pytest.raises(ValueError, match="with_masks=True reads them as polygons"):
        len(DetectionDataset(folder / "images", folder / "labels", ["helmet"]))
    masked = DetectionDataset(folder / "images", folder / "labels", ["helmet"], with_masks=True)
    assert np.allclose(masked.table.boxes, [[20, 10, 60, 25]])


def test_most_polygons_of_one_length_need_not_begin_like_a_box(folder):
    """Small triangles all over the image: the first two corners are a box within it for fewer than half of them."""
    generator = np.random.default_rng(0)
    corners = generator.uniform(0.03, 0.97, (40, 1, 2)) + generator.uniform(-0.03, 0.03, (40, 3, 2))
    lines = [" ".join(map(str, ["0", *points.ravel().round(6)])) for points in corners]
    (folder / "labels/a.txt").write_text("\n".join(lines))
    table = DetectionDataset(folder / "images", folder / "labels", ["helmet"]).table
    assert np.allclose(table.boxes[:, :2], corners.min(1) * (100, 50), atol=1e-3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("names: {0: on, 1: off}", ("on", "off")),
        ("names: [yes, no]", ("yes", "no")),
        ("names: [010, 1_000]", ("010", "1 000")),
        ("names: [1:30, 2024-01-01]", ("1:30", "2024-01-01")),
        ("names: [1.0, 1e3]\nnc: 2", ("1.0", "1e3")),
        ('names: {"0": a, "1": b}\nnc: "2"', ("a", "b")),
        ("names: {0.0: a, 1.0: b}", ("a", "b")),
    ],
)
def test_names_of_a_yaml_are_the_words_that_are_written_there(folder, text, expected):
    (folder / "labels/a.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    (folder / "data.yaml").write_text(text)
    dataset = DetectionDataset("images", "labels", "data.yaml", root=folder)
    assert dataset.vocabulary.class_names == expected and dataset.table.classes.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: {0: a, 1: }", "the name of class 1 is not a text but None; put it in quotes"),
        ("names: {0: a, 3: ' '}", r"class 3 has an empty name \(' '\); give it one"),
        ("names: ['0 cat', '1 dog']", "names in their order: class 0: '0 cat' looks numbered"),
        ("names: [a, null]", "the name of class 1 is not a text but None"),
        ("names: [a, [b, c]]", "the name of class 1 is not a text"),
        ("names: {0: a, 0: b}", "a key is given twice"),
        ("names: {0: a, 0.0: b}", "a class number is given twice"),
        ("names: {0: a, one: b}", "names: expected a whole number, got 'one'"),
        ("names: [a, b]\nnc: 3", "nc states 3 classes, names has 2"),
        ("names: [a, b]\nnc: many", "nc: expected a whole number, got 'many'"),
    ],
)
def test_names_that_a_yaml_does_not_give_are_an_error(folder, text, message):
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "data.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"data\.yaml.*{message}"):
        len(DetectionDataset("images", "labels", "data.yaml", root=folder))


def test_yolo_needs_names_and_labels_that_belong_to_images(folder, logged):
    (folder / "labels/x.txt").write_text("0 0.5 0.5 0.2 0.4")
    with pytest.raises(ValueError, match="YOLO labels hold numbers only"):
        len(DetectionDataset(folder / "images", folder / "labels"))
    with pytest.raises(FileNotFoundError, match="none of the 1 label files belongs to one of the 3 images"):
        len(DetectionDataset(folder / "images", folder / "labels", ["a"]))
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.4\n0 nan 0.5 0.2 0.4\n0 nan 0.5 0.2 0.4 0.3 0.3\n")
    assert len(DetectionDataset(folder / "images", folder / "labels", ["a"])) == 1
    assert "1 label files without an image are skipped; the first is x.txt" in logged[-1].getMessage()
    assert "2 boxes with coordinates that are not finite dropped" in logged[-1].getMessage()
    (folder / "data.yaml").write_text("nc: 3")
    with pytest.raises(ValueError, match="expected 'names'"):
        len(DetectionDataset(folder / "images", folder / "labels", folder / "data.yaml"))


def test_voc_folder_by_two_arguments(folder, logged):
    _write_xml(folder, "a", ("vest", (10, 5, 40, 45), 0), ("helmet", (50, 5, 60, 15), 1))
    _write_xml(folder, "more/c", ("vest", (0, 0, 100, 50), 0))
    dataset = DetectionDataset(folder / "images", folder / "labels")
    instances = dataset[0]["sample"].instances
    assert dataset.vocabulary.class_names == ("helmet", "vest") and len(dataset) == 2
    assert instances.boxes.tolist() == [[10, 5, 40, 45], [50, 5, 60, 15]]
    assert instances.classes.tolist() == [1, 0] and instances.is_crowd.tolist() == [False, True]
    assert dataset[1]["sample"].sample_id == "more/c"
    assert "1 images without an XML file are dropped" in logged[0].getMessage()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", True), (" 1 ", True), ("true", True), ("Yes", True), ("1.0", True), ("0", False), ("false", False),
     ("no", False), ("", False), ("Unspecified", False)],
)  # fmt: skip
def test_voc_says_in_several_ways_that_an_object_is_difficult(folder, text, expected):
    _write_xml(folder, "a", ("vest", (10, 5, 40, 45), text), ("vest", (10, 5, 40, 45), "0"))
    table = DetectionDataset(folder / "images", folder / "labels").table
    assert table.is_crowd.tolist() == [expected, False]


@pytest.mark.parametrize("text", ["2", "perhaps"])
def test_another_word_of_difficulty_is_named(folder, text):
    _write_xml(folder, "a", ("vest", (10, 5, 40, 45), text))
    with pytest.raises(BadSample, match=rf"a\.xml: object 'vest': difficult: expected 0 or 1, .* got '{text}'"):
        len(DetectionDataset(folder / "images", folder / "labels"))


SIZE_TAG = "<size><width>{1}</width><height>{0}</height><depth>3</depth></size>"


@pytest.mark.parametrize(
    ("stated", "message"),
    [((50, 100), ""), ((0, 0), ""), (("", ""), ""), (("50.0", "100.0"), ""), ((100, 50), "its size says 100x50 .* its"),
     ((600, 800), "its size says 600x800 .*, its image is 50x100"), ((-50, 100), "its size says"),
     ((0, 100), ""), ((50, ""), ""), ((0, 800), "its size says ?x800 .* its image is 50x100"),
     ((600, ""), "its size says 600x? .* its image is 50x100"),
     (("wide", 100), "size/height: expected a whole number, got 'wide'")],
)  # fmt: skip
def test_a_size_that_a_voc_file_states_is_that_of_its_image(folder, stated, message):
    _write_xml(folder, "a", ("vest", (10, 5, 40, 45), 0))
    path = folder / "labels/a.xml"
    path.write_text(path.read_text().replace("</filename>", "</filename>" + SIZE_TAG.format(*stated)))
    dataset = DetectionDataset(folder / "images", folder / "labels")
    if not message:
        assert dataset.table.boxes.tolist() == [[10, 5, 40, 45]]
        return
    with pytest.raises(BadSample, match=rf"a\.xml: {message.replace('?', '[?]')}"):
        len(dataset)


def test_voc_boxes_as_shares_are_refused_by_what_most_files_hold(folder):
    for name, box in (("a", (0.1, 0.1, 0.4, 0.9)), ("b", (0.5, 0.1, 0.6, 0.3)), ("more/c", (10, 5, 40, 45))):
        _write_xml(folder, name, ("vest", box, 0))
    with pytest.raises(ValueError, match=r"labels: 2 of 3 boxes lie within 0..1, as fractions of the image do"):
        len(DetectionDataset(folder / "images", folder / "labels"))
    _write_xml(folder, "b", ("vest", (50, 5, 60, 15), 0))  # one odd box of less than a pixel proves nothing
    assert len(DetectionDataset(folder / "images", folder / "labels").table.ids) == 3


def test_voc_in_a_namespace_is_voc(folder):
    _write_xml(folder, "a", ("vest", (10, 5, 40, 45), 0))
    path = folder / "labels/a.xml"
    path.write_text(path.read_text().replace("<annotation>", "<annotation xmlns='http://example.org/voc'>"))
    assert DetectionDataset(folder / "images", folder / "labels").table.boxes.tolist() == [[10, 5, 40, 45]]


def test_wrong_voc_files_are_named(folder):
    _write_xml(folder, "a", ("vest", (10, 5, "wide", 45), 0))
    with pytest.raises(ValueError, match=r"a\.xml: object 'vest' needs a bndbox"):
        len(DetectionDataset(folder / "images", folder / "labels"))
    (folder / "labels/a.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"a\.xml: is not XML"):
        len(DetectionDataset(folder / "images", folder / "labels"))
    for text, came in (
        ("<html><body>404</body></html>", "got <html>"),
        ("<annotations><image name='a.jpg'/></annotations>", "got <annotations>"),
        ("<x:html xmlns:x='x:y'/>", "got <html>"),
    ):
        (folder / "labels/a.xml").write_text(text)
        with pytest.raises(ValueError, match=rf"a\.xml: expected a Pascal-VOC file.*{re.escape(came)}"):
            len(DetectionDataset(folder / "images", folder / "labels"))
    with pytest.raises(ValueError, match="hold boxes only"):
        len(DetectionDataset(folder / "images", folder / "labels", with_masks=True))


def test_a_stray_file_of_the_other_kind_costs_a_note_at_most(folder, logged):
    (folder / "labels/project.xml").write_text("<project/>")
    _write_xml(folder, "a", ("vest", (10, 5, 40, 45), 0))
    assert len(DetectionDataset(folder / "images", folder / "labels").table.ids) == 1
    assert "1 XML files without an image are skipped; the first is project.xml" in logged[0].getMessage()
    (folder / "labels/readme.txt").write_text("made by me")
    assert len(DetectionDataset(folder / "images", folder / "labels").table.ids) == 1
    (folder / "labels/a.xml").unlink()
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert len(DetectionDataset(folder / "images", folder / "labels", ["vest"]).table.ids) == 1


def test_labels_of_both_kinds_are_refused(folder):
    _write_xml(folder, "a", ("vest", (10, 5, 40, 45), 0))
    (folder / "labels/b.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(ValueError, match=r"labels holds .txt \(YOLO\) and .xml \(VOC\) files of images; move one kind"):
        len(DetectionDataset(folder / "images", folder / "labels", ["vest"]))


def test_an_image_may_be_called_classes(folder):
    cv2.imwrite(str(folder / "images/classes.jpg"), np.zeros((50, 100, 3), np.uint8))
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "labels/classes.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    dataset = DetectionDataset("images", "labels", ["vest"], root=folder)
    assert len(dataset.table.classes) == 2


@pytest.mark.parametrize("name", ["data.yaml", "data.YAML", "data.Yml"])
def test_a_yaml_is_one_in_any_case_and_read_once(folder, monkeypatch, name):
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / name).write_text("names: [helmet]\nkpt_shape: [1, 2]\n")
    times, read = [], yolo_annotations.read_yaml
    monkeypatch.setattr(yolo_annotations, "read_yaml", lambda path: times.append(path) or read(path))
    assert DetectionDataset("images", "labels", name, root=folder).vocabulary.class_names == ("helmet",)
    assert len(times) == 1


def test_an_empty_folder_is_no_annotations(folder):
    with pytest.raises(FileNotFoundError, match=r"neither .txt \(YOLO\) nor .xml \(VOC\) nor .json \(labelme\) files"):
        len(DetectionDataset(folder / "images", folder / "labels", ["a"]))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_in_the_header_is_that_of_the_decoded_image(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(tmp_path / "x.jpg", exif=exif)
    assert read_image_size(tmp_path / "x.jpg") == read_image(tmp_path / "x.jpg").shape[:2]
    (tmp_path / "y.jpg").write_text("no image")
    with pytest.raises(BadSample, match=r"y\.jpg"):
        read_image_size(tmp_path / "y.jpg")


def test_the_two_blood_cells_of_no_size_are_reported(shared_data, logged):
    folder = shared_data / "bccd/BCCD"
    dataset = DetectionDataset(folder / "JPEGImages", folder / "Annotations", ["RBC", "WBC", "Platelets"])
    assert len(dataset) == 364 and len(dataset.table.ids) == 4886
    assert [record.getMessage() for record in logged] == [
        "DetectionDataset: 364 images, 4886 objects of 3 classes; 2 boxes of zero or negative size dropped (the first "
        "is annotation 3951 of BloodImage_00338.jpg)"
    ]
    parts = [DetectionDataset("JPEGImages", "Annotations", root=folder, keys=f"ImageSets/Main/{part}.txt")
             for part in ("train", "val", "test")]  # fmt: skip
    assert [len(part) for part in parts] == [205, 87, 72]


def test_blood_cells_as_coco_json_are_those_of_the_xml_files(shared_data):
    folder = shared_data / "bccd"
    from_json = DetectionDataset(folder / "BCCD/JPEGImages", folder / "coco.json", ["RBC", "WBC", "Platelets"])
    from_xml = DetectionDataset(
        folder / "BCCD/JPEGImages",
        folder / "BCCD/Annotations",
        ["RBC", "WBC", "Platelets"],
        labels=dict(unlisted_ids="raise"),
    )
    assert np.array_equal(from_json.table.boxes, from_xml.table.boxes)
    assert np.array_equal(from_json.table.classes, from_xml.table.classes)


def test_coco_boxes_as_yolo_are_those_of_the_json(shared_data):
    folder = shared_data / "coco_sample"
    yolo = DetectionDataset(
        "images/val2017", "object_detection/labels/val2017", "object_detection/config.yaml", root=folder
    )
    coco = DetectionDataset("images/val2017", "annotations/boxes_val128.json", root=folder)
    assert yolo.vocabulary.class_names == coco.vocabulary.class_names
    assert np.allclose(yolo.table.boxes, coco.table.boxes, atol=0.02)
    assert np.array_equal(yolo.table.classes, coco.table.classes)
