"""Exports of labeling tools, read as boxes and as label maps: every format gives the same objects."""

import json
import math

import numpy as np
import pytest
from own_files import (
    BOXES,
    COLORS,
    HEIGHT,
    NAMES,
    WIDTH,
    cvat_xml,
    label_map,
    label_studio,
    labelme,
    write_coco,
    write_color_masks,
    write_labelme,
    write_masks,
    write_photos,
    write_voc,
    write_yolo,
)
from PIL import Image
from pycocotools import mask as coco_mask

from openvocab.datasets.annotations.cvat import read_cvat
from openvocab.datasets.annotations.label_studio import read_label_studio
from openvocab.datasets.annotations.labelme import read_labelme
from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.images.image_io import BadSample

SOURCES = {
    "coco": ("labels.json", lambda root: write_coco(root / "labels.json")),
    "yolo": ("labels", lambda root: write_yolo(root / "labels", polygons=True)),
    "labelme": ("labels", lambda root: write_labelme(root / "labels")),
    "cvat": ("labels.xml", lambda root: (root / "labels.xml").write_text(cvat_xml())),
    "label studio": ("labels.json", lambda root: (root / "labels.json").write_text(json.dumps(label_studio()))),
}


@pytest.fixture(params=SOURCES)
def source(request, tmp_path):
    """Write photos and labels of a format; return its name and its file or folder."""
    write_photos(tmp_path / "photos")
    name, write = SOURCES[request.param]
    write(tmp_path)
    return request.param, name


def test_every_format_gives_the_same_boxes_and_masks(source, tmp_path):
    dataset = DetectionDataset("photos", source[1], NAMES, root=tmp_path, with_masks=True)
    assert len(dataset) == 6
    for index in range(6):
        instances = dataset[index]["sample"].instances
        order = instances.classes.argsort()
        assert instances.classes[order].tolist() == [0, 1]
        np.testing.assert_allclose(instances.boxes[order].numpy(), BOXES[index], atol=1e-3)
        for label, mask in enumerate(instances.masks[order].numpy()):
            np.testing.assert_array_equal(mask, label_map(index) == label)


def test_every_format_gives_the_same_label_maps(source, tmp_path):
    dataset = SegmentationDataset("photos", source[1], NAMES, root=tmp_path)
    for index in range(6):
        np.testing.assert_array_equal(dataset[index]["sample"].label_map.numpy(), label_map(index))


def test_the_background_is_a_class_if_it_is_named(source, tmp_path):
    options = dict(root=tmp_path, class_options=dict(background="other"), labels=dict(unlisted_ids="raise"))
    dataset = SegmentationDataset("photos", source[1], [*NAMES, "other"], **options)
    np.testing.assert_array_equal(dataset[3]["sample"].label_map.numpy(), label_map(3, ground=2))


def test_formats_with_names_need_no_classes(source, tmp_path):
    if source[0] == "yolo":
        with pytest.raises(ValueError, match="classes: "):
            len(SegmentationDataset("photos", source[1], root=tmp_path))
    else:
        dataset = SegmentationDataset("photos", source[1], root=tmp_path)
        assert set(dataset.vocabulary.class_names) == set(NAMES)


def test_one_class_alone_is_drawn_as_0(source, tmp_path):
    if source[0] == "yolo":
        write_yolo_of_one_class(tmp_path / "labels")
    options = dict(root=tmp_path, labels=dict(unlisted_ids="ignore"))
    dataset = SegmentationDataset("photos", source[1], NAMES[:1], **options)
    np.testing.assert_array_equal(dataset[3]["sample"].label_map.numpy(), np.where(label_map(3) == 0, 0, 255))


def write_yolo_of_one_class(folder):
    """Drop the blue rectangles: YOLO has no classes without a name."""
    for path in folder.iterdir():
        path.write_text(path.read_text().split("\n")[0])


def test_keys_choose_a_part(source, tmp_path):
    (tmp_path / "val.txt").write_text("photo 4\nphoto 1\n")
    for kind in (SegmentationDataset, DetectionDataset):
        dataset = kind("photos", source[1], NAMES, root=tmp_path, keys="val.txt")
        assert sorted(dataset[index]["sample"].image_path[-5] for index in range(len(dataset))) == ["1", "4"]


def test_a_later_shape_hides_an_earlier_one_and_of_coco_a_smaller_one_a_larger_one(tmp_path):
    write_photos(tmp_path / "photos", [0])
    whole = [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]]
    content = labelme(0)
    content["shapes"] = [*content["shapes"][:2], dict(label=NAMES[1], points=whole, shape_type="polygon")]
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "photo 0.json").write_text(json.dumps(content))
    drawn = SegmentationDataset("photos", "labels", NAMES, root=tmp_path)[0]["sample"].label_map
    assert (drawn == 1).all()
    write_coco(tmp_path / "labels.json", [0])
    coco = json.loads((tmp_path / "labels.json").read_text())
    outline = dict(segmentation=[[0, 0, WIDTH, 0, WIDTH, HEIGHT, 0, HEIGHT]], bbox=[0, 0, WIDTH, HEIGHT])
    coco["annotations"].append(dict(coco["annotations"][1], id=9, **outline))
    (tmp_path / "labels.json").write_text(json.dumps(coco))
    drawn = SegmentationDataset("photos", "labels.json", NAMES, root=tmp_path)[0]["sample"].label_map.numpy()
    np.testing.assert_array_equal(drawn, np.where(label_map(0) == 0, 0, 1))


def test_boxes_alone_are_no_label_maps(tmp_path):
    write_photos(tmp_path / "photos")
    write_coco(tmp_path / "labels.json", polygons=False)
    with pytest.raises(ValueError, match="12 of 12 objects are boxes, without an outline"):
        len(SegmentationDataset("photos", "labels.json", NAMES, root=tmp_path))


def test_colors_stand_for_classes(tmp_path):
    write_photos(tmp_path / "photos")
    write_color_masks(tmp_path / "masks")
    labels = dict(colors=COLORS, ignored_colors=[(0, 0, 0)])
    dataset = SegmentationDataset("photos", "masks", NAMES, root=tmp_path, labels=labels)
    for index in range(6):
        np.testing.assert_array_equal(dataset[index]["sample"].label_map.numpy(), label_map(index))
    dataset = SegmentationDataset("photos", "masks", NAMES, root=tmp_path, labels=dict(colors=COLORS))
    with pytest.raises(BadSample, match=r"1580 pixels have colors that are not of a class: \(0, 0, 0\)"):
        dataset[0]


def test_a_color_map_is_lossless_and_its_table_unambiguous(tmp_path):
    write_photos(tmp_path / "photos", [0])
    write_photos(tmp_path / "masks", [0], ".jpg")
    with pytest.raises(BadSample, match="a label map cannot be a JPEG"):
        SegmentationDataset("photos", "masks", NAMES, root=tmp_path, labels=dict(colors=COLORS))[0]
    with pytest.raises(ValueError, match="0..255"):
        SegmentationDataset("photos", "masks", NAMES, root=tmp_path, labels=dict(colors=[(1, 2, 3), (1, 2, 300)]))


# labelme


def write_shapes(tmp_path, *shapes, **changes):
    write_photos(tmp_path / "photos", [0])
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "labels" / "photo 0.json").write_text(json.dumps(labelme(0) | dict(shapes=shapes) | changes))
    return tmp_path / "labels", tmp_path / "photos"


def test_labelme_circles_and_groups(tmp_path):
    part = dict(label="a", group_id=3, shape_type="polygon")
    folders = write_shapes(
        tmp_path,
        dict(label="disc", points=[[30, 20], [30, 30]], shape_type="circle"),
        dict(part, points=[[0, 0], [4, 0], [4, 4]]),
        dict(part, points=[[10, 10], [14, 10], [14, 14]]),
    )
    found = read_labelme(*folders, with_masks=True)
    assert found.category_names == ["a", "disc"] and found.columns.category.tolist() == [1, 0]
    np.testing.assert_allclose(found.columns.boxes, [[20, 10, 40, 30], [0, 0, 14, 14]], atol=1e-6)
    area = found.columns.masks.decode(0, (HEIGHT, WIDTH)).sum()
    assert area == pytest.approx(math.pi * 100, rel=0.03)


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        (dict(label="a", points=[[0, 0], [4, 4]], shape_type="mask", mask="iVBOR"), "turn it into a polygon"),
        (dict(label="a", points=[[0, 0], [4, 4]], shape_type="polygon"), "'polygon' of 2 points"),
        (dict(label="", points=[[0, 0], [4, 4]], shape_type="rectangle"), "expected a name under 'label'"),
        (dict(label="a", points=[[0, 0], [4, "x"]], shape_type="rectangle"), "points: expected a number"),
        (dict(label="a", points=[[0, 0], [4, 1e12], [3, 3]]), "an outline of more than"),
        (dict(label="a", points=[[0, 0], [4, float("nan")], [3, 3]]), "not finite"),
        (dict(label="a", points=[[0, 0], [4, 1e200]], shape_type="circle"), "an outline of more than"),
        ("text", "expected an object with 'label'"),
    ],
)
def test_a_labelme_shape_that_cannot_be_used_names_file_and_shape(tmp_path, shape, line):
    with pytest.raises(BadSample, match=line) as caught:
        read_labelme(*write_shapes(tmp_path, shape), with_masks=False)
    assert "photo 0.json: shape 0 (from 0)" in str(caught.value)


def test_labelme_of_another_image_or_another_json_is_refused(tmp_path):
    folders = write_shapes(tmp_path, imageHeight=41)
    with pytest.raises(BadSample, match="states an image of 41x60"):
        read_labelme(*folders, with_masks=False)
    (folders[0] / "photo 0.json").write_text('{"images": []}')
    with pytest.raises(BadSample, match="expected a file of labelme"):
        read_labelme(*folders, with_masks=False)


# CVAT


def read_cvat_text(tmp_path, text, with_masks=True):
    (tmp_path / "cvat.xml").write_text(text)
    return read_cvat(tmp_path / "cvat.xml", with_masks)


def test_cvat_turned_boxes_ellipses_masks_and_the_order_of_layers(tmp_path):
    runs = "0,2,2,2"  # 2 x 3: the left two columns of... row by row: 1 1 0 | 0 1 1
    extra = (
        f'<box label="{NAMES[0]}" xtl="20" ytl="10" xbr="40" ybr="14" rotation="90" z_order="5"/>'
        f'<ellipse label="{NAMES[0]}" cx="30" cy="20" rx="8" ry="4" z_order="6"/>'
        f'<mask label="{NAMES[1]}" rle="{runs}" left="50" top="30" width="3" height="2" z_order="-1"/>'
        f'<polyline label="{NAMES[1]}" points="1,1;2,2"/><tag label="x"/>'
    )
    found = read_cvat_text(tmp_path, cvat_xml([0], extra))
    assert found.columns.category.tolist() == [1, 0, 1, 0, 0]  # by z_order: mask, box, polygon, turned box, ellipse
    mask = found.columns.masks.decode(0, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(mask[30:32, 50:53], [[1, 1, 0], [0, 1, 1]])
    assert mask.sum() == 4
    np.testing.assert_allclose(found.columns.boxes[3], [28, 2, 32, 22])
    np.testing.assert_allclose(found.columns.boxes[4], [22, 16, 38, 24], atol=0.01)
    assert "1 lines, points" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("<annotation/>", "expected CVAT's outermost element <annotations>"),
        ("<annotations/>", "expected <image> elements"),
        ('<annotations><track id="0"/></annotations>', "tracks of a video"),
        (cvat_xml([0], '<box label="zebra" xtl="1" ytl="1" xbr="2" ybr="2"/>'), "the label 'zebra'"),
        (cvat_xml([0], '<box label="red box" xtl="1" ytl="1" xbr="2"/>'), "<box> 2 .* ybr: expected a number"),
        (cvat_xml([0], '<polygon label="red box" points="1,1;2,2"/>'), "expected points="),
        (cvat_xml([0], '<polygon label="red box" points="1,1;2,2;1e9,3"/>'), "<polygon> 2 .* an outline of more than"),
        (cvat_xml([0], '<ellipse label="red box" cx="nan" cy="1" rx="1" ry="1"/>'), "not finite"),
        (cvat_xml([0], '<mask label="red box" rle="9" left="0" top="0" width="2" height="2"/>'), "runs of 9 pixels"),
        (cvat_xml([0], '<mask label="red box" rle="4" left="59" top="0" width="2" height="2"/>'), "beyond its image"),
    ],
)
def test_a_cvat_file_that_cannot_be_used_is_one_line(tmp_path, text, line):
    with pytest.raises(ValueError, match=line) as caught:
        read_cvat_text(tmp_path, text)
    assert "cvat.xml" in str(caught.value) and "\n" not in str(caught.value)


# Label Studio


def read_tasks(tmp_path, tasks):
    write_photos(tmp_path / "photos")
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    return read_label_studio(tmp_path / "tasks.json", tmp_path / "photos", with_masks=True)


def test_label_studio_turns_rectangles_around_their_first_corner(tmp_path):
    tasks = label_studio([0])
    value = dict(x=50, y=25, width=20, height=10, rotation=90, rectanglelabels=["a"])
    tasks[0]["annotations"][0]["result"][0]["value"] = value
    found = read_tasks(tmp_path, tasks)
    np.testing.assert_allclose(found.columns.boxes[0], [26, 10, 30, 22])  # 12 x 4 pixels, turned around (30, 10)


def test_label_studio_finds_images_by_every_kind_of_address(tmp_path):
    tasks = label_studio()
    addresses = ["/data/local-files/?d=my%20photos/photo%200.png", "s3://bucket/photo 1.png", "photo 2.png"]
    for task, address in zip(tasks, [*addresses, "http://h/a/photo%203.png?token=1", "C:\\x\\photo 4.png"]):
        task["data"] = {"picture": address, "note": "seen"}
    assert [entry.path for entry in read_tasks(tmp_path, tasks).images] == [f"photo {n}.png" for n in range(6)]


def change(tasks, **changes):
    tasks[0]["annotations"][0]["result"][0] |= changes
    return tasks


@pytest.mark.parametrize(
    ("tasks", "line"),
    [
        ([], "expected an export of Label Studio"),
        ([dict(image="a.png", label=[])], "not 'JSON-MIN'"),
        (change(label_studio(), image_rotation=90), "turned while it was labeled"),
        (change(label_studio(), type="brushlabels"), "export the brushes as PNG"),
        (change(label_studio(), original_width=10**9), "task 100: result 0 .* an outline of more than"),
        (change(label_studio(), original_width=61), "images of different sizes"),
        (change(label_studio(), value=dict(x=1, y=2, width=3, height=4, rectanglelabels=["a", "b"])), "one name under"),
        ([dict(label_studio([0])[0], annotations=2 * label_studio([0])[0]["annotations"])], "has 2 annotations"),
        ([dict(label_studio([0])[0], data=dict(image="/x/9.png"))], "no image 9.png"),
        ([dict(label_studio([0])[0], data=dict(text="x"))], "expected one image in 'data'"),
    ],
)
def test_a_label_studio_file_that_cannot_be_used_is_one_line(tmp_path, tasks, line):
    with pytest.raises((ValueError, FileNotFoundError), match=line) as caught:
        read_tasks(tmp_path, tasks)
    assert "tasks.json" in str(caught.value)


def test_label_studio_drops_tasks_without_an_annotation_and_keeps_empty_ones(tmp_path):
    tasks = label_studio()
    tasks[0]["annotations"] = []
    tasks[1]["annotations"][0]["result"] = []
    found = read_tasks(tmp_path, tasks)
    assert len(found.images) == 5 and found.images[0].size is None and len(found.columns.ids) == 8
    assert found.notes == ["1 tasks without an annotation are dropped"]


# folders


def test_a_folder_with_labels_of_two_formats_is_ambiguous(tmp_path):
    write_photos(tmp_path / "photos")
    write_voc(tmp_path / "labels")
    write_labelme(tmp_path / "labels")
    with pytest.raises(ValueError, match=r"\.json \(labelme\) and \.xml \(VOC\) files of images"):
        len(DetectionDataset("photos", "labels", root=tmp_path))


def test_masks_next_to_other_files_are_label_maps(tmp_path):
    write_photos(tmp_path / "photos")
    write_masks(tmp_path / "masks")
    (tmp_path / "masks" / "readme.txt").write_text("0: red box")
    dataset = SegmentationDataset("photos", "masks", NAMES, root=tmp_path)
    np.testing.assert_array_equal(dataset[2]["sample"].label_map.numpy(), label_map(2))


def test_the_fixture_is_right(tmp_path):
    write_photos(tmp_path, [1])
    pixels = np.asarray(Image.open(tmp_path / "photo 1.png"))
    assert (pixels[label_map(1) == 1] == COLORS[1]).all()
    x1, y1, x2, y2 = BOXES[1][1]
    polygon = coco_mask.frPyObjects([[x1, y1, x2, y1, x2, y2, x1, y2]], HEIGHT, WIDTH)
    np.testing.assert_array_equal(coco_mask.decode(polygon)[..., 0], label_map(1) == 1)
