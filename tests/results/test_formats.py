"""Files of results, read back by the programs that they are for."""

import csv
import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from result_parts import LABELS, classification, detection, semantic

from openvocab.datasets import DetectionDataset
from openvocab.results.coco import joined_documents
from openvocab.results.formats import FORMATS, csv_bytes


def coco(document, tmp_path):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(document))
    return COCO(path)


def test_pycocotools_reads_masks_of_label_maps(tmp_path):
    read = coco(semantic().to_coco(), tmp_path)
    categories = {index: category["name"] for index, category in read.cats.items()}
    assert list(categories.values()) == list(semantic().names)
    for annotation in read.anns.values():
        index = annotation["category_id"] - 1
        assert np.array_equal(read.annToMask(annotation), LABELS == index)
        assert annotation["area"] == (LABELS == index).sum()
    assert len(read.anns) == 3


@pytest.mark.parametrize("masks", [True, False])
def test_pycocotools_reads_objects(tmp_path, masks):
    result = detection(masks)
    read = coco(result.to_coco(), tmp_path)
    for index, annotation in enumerate(read.anns.values()):
        x, y, width, height = annotation["bbox"]
        assert [x, y, x + width, y + height] == result.boxes[index].tolist()
        assert annotation["score"] == pytest.approx(result.scores[index].item())
        assert read.cats[annotation["category_id"]]["name"] == result.object_names[index]
        if masks:
            assert np.array_equal(read.annToMask(annotation), result.mask(index))


def test_documents_of_several_images_join_with_new_ids(tmp_path):
    read = coco(joined_documents([detection().to_coco(), semantic().to_coco()]), tmp_path)
    assert sorted(read.imgs) == [1, 2] and sorted(read.anns) == [1, 2, 3, 4, 5, 6]
    assert [len(read.getAnnIds(imgIds=[image])) for image in (1, 2)] == [3, 3]
    other = detection().to_coco() | {"categories": []}
    with pytest.raises(ValueError, match="different names"):
        joined_documents([detection().to_coco(), other])


def test_a_label_map_is_a_png_of_indices_with_colors_and_names(tmp_path):
    picture = Image.open(semantic().save(tmp_path / "new" / "labels.png", "label-png"))
    assert picture.mode == "P" and np.array_equal(np.asarray(picture), LABELS)
    assert json.loads(picture.text["names"]) == list(semantic().names)
    colors = np.asarray(picture.convert("RGB"))
    assert len(np.unique(colors[LABELS != 255].reshape(-1, 3), axis=0)) == 3
    with pytest.raises(ValueError, match="label-png: expected a label map, but this model predicts objects"):
        detection().save(tmp_path / "x.png", "label-png")


@pytest.mark.parametrize("masks", [True, False])
def test_our_yolo_reader_reads_objects(tmp_path, masks):
    result = detection(masks)
    (tmp_path / "images").mkdir()
    Image.fromarray(result.source).save(tmp_path / "images" / "photo.png")
    result.save(tmp_path / "labels" / "photo.txt")
    dataset = DetectionDataset(
        root=str(tmp_path), images="images", annotations="labels", classes=list(result.names), with_masks=masks,
        pipeline=[dict(type="LoadImage"), dict(type="LoadInstances"), dict(type="PackSample")],
    )  # fmt: skip
    instances = dataset[0]["sample"].instances
    assert [result.names[index] for index in instances.classes] == result.object_names
    if masks:
        for index, mask in enumerate(instances.masks):
            assert np.array_equal(mask.numpy(), result.mask(index))
    else:
        assert np.allclose(instances.boxes, result.boxes, atol=1e-4)


def test_voc_holds_edges_in_whole_pixels(tmp_path):
    root = ElementTree.parse(detection().save(tmp_path / "photo.xml")).getroot()
    boxes = [[int(box.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax")] for box in root.iter("bndbox")]
    assert boxes == [[1, 1, 4, 5], [0, 0, 2, 2], [3, 2, 8, 6]]
    assert [element.text for element in root.iter("name")] == ["cat", "cat", "sofa"]
    assert (root.findtext("size/width"), root.findtext("size/height")) == ("8", "6")


def test_our_voc_reader_reads_objects_up_to_rounding(tmp_path):
    result = detection(masks=False)
    (tmp_path / "images").mkdir()
    Image.fromarray(result.source).save(tmp_path / "images" / "photo.png")
    result.save(tmp_path / "labels" / "photo.xml")
    dataset = DetectionDataset(
        root=str(tmp_path), images="images", annotations="labels", classes=list(result.names),
        pipeline=[dict(type="LoadImage"), dict(type="LoadInstances"), dict(type="PackSample")],
    )  # fmt: skip
    instances = dataset[0]["sample"].instances
    assert [result.names[index] for index in instances.classes] == result.object_names
    assert np.allclose(instances.boxes, result.boxes, atol=0.5)


def test_boxes_thinner_than_a_pixel_cover_one_in_voc(tmp_path):
    result = detection(masks=False)
    result.boxes = torch.tensor([[2.6, 1.0, 3.4, 1.2], [7.9, 5.9, 8.0, 6.0], [0.0, 0.0, 8.0, 6.0]])
    root = ElementTree.parse(result.save(tmp_path / "photo.xml")).getroot()
    boxes = [[int(side.text) for side in box] for box in root.iter("bndbox")]
    assert boxes == [[2, 1, 3, 2], [7, 5, 8, 6], [0, 0, 8, 6]]


@pytest.mark.parametrize("name", ["caf\udce9.png", "a\x01b.png", "a\rb.png", 'a,"b"\n.png', "<&>'.png", "می‌.png"])
def test_every_format_takes_file_names_of_all_characters(tmp_path, name):
    result, shown = detection(), name.encode(errors="backslashreplace").decode()
    result.sample_id = name
    in_xml = ElementTree.parse(result.save(tmp_path / "photo.xml")).findtext("filename")
    assert in_xml == shown.replace("\x01", "\\x01").replace("\r", "\\r")
    assert json.loads(result.save(tmp_path / "a.json", "json").read_text("utf-8"))["image"] == name
    assert coco(result.to_coco(), tmp_path).imgs[1]["file_name"] == name
    (tmp_path / "a.csv").write_bytes(csv_bytes([{"image": name, "score": 0.5}]))
    (row,) = csv.DictReader(open(tmp_path / "a.csv", newline="", encoding="utf-8"))
    assert row == {"image": shown, "score": "0.5"}


def test_voc_gives_a_box_that_is_thinner_than_a_pixel_the_pixel_where_it_lies(tmp_path):
    result = replace(detection(masks=False), boxes=torch.tensor([[2.1, 1, 2.3, 4], [7.6, 5.7, 7.9, 6], [0, 0, 0.2, 1]]))
    root = ElementTree.parse(result.save(tmp_path / "photo.xml")).getroot()
    boxes = [[int(box.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax")] for box in root.iter("bndbox")]
    assert boxes == [[2, 1, 3, 4], [7, 5, 8, 6], [0, 0, 1, 1]]


def test_geojson_has_closed_rings_with_holes():
    document = json.loads(json.dumps(semantic().to_geojson()))
    by_name = {feature["properties"]["name"]: feature["geometry"]["coordinates"] for feature in document["features"]}
    assert len(by_name["cat"]) == 2  # the outline and its hole
    for feature in document["features"]:
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1] and len(ring) >= 5
    boxes = detection(masks=False).to_geojson()["features"]
    assert boxes[0]["geometry"]["coordinates"][0][:3] == [[1.0, 1.0], [4.0, 1.0], [4.0, 5.0]]
    assert boxes[0]["properties"]["name"] == "cat"


def test_tables_and_arrays_read_back(tmp_path):
    rows = list(csv.DictReader(io.StringIO(detection().save(tmp_path / "a.csv").read_text())))
    assert [row["name"] for row in rows] == ["cat", "cat", "sofa"] and float(rows[0]["x2"]) == 4
    assert list(csv.DictReader(open(semantic().save(tmp_path / "b.csv"))))[2]["name"] == "über größe"
    with np.load(semantic().save(tmp_path / "c.npz"), allow_pickle=False) as file:
        assert np.array_equal(file["label_map"], LABELS) and file["names"].tolist() == list(semantic().names)
    with np.load(detection().save(tmp_path / "d.npz"), allow_pickle=False) as file:
        assert file["masks"].shape == (3, 6, 8) and file["boxes"].shape == (3, 4)
    assert json.loads(classification().save(tmp_path / "e.json", "json").read_text())["found"][0]["score"] == 0.4


def test_supervision_reads_both(tmp_path):
    supervision = pytest.importorskip("supervision")
    for result in (semantic(), detection(), detection(masks=False), detection()[:0], detection(masks=False)[:0]):
        detections = result.to_supervision()
        assert isinstance(detections, supervision.Detections) and len(detections) == len(result)
    objects = detection().to_supervision()
    assert np.array_equal(objects.xyxy, detection().boxes) and objects.data["class_name"].tolist() == [
        "cat",
        "cat",
        "sofa",
    ]
    assert np.array_equal(objects.mask[2], detection().mask(2))
    regions = semantic().to_supervision()
    assert np.array_equal(regions.mask[regions.data["class_name"] == "cat"][0], LABELS == 0)


def test_a_missing_program_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fiftyone", None)
    with pytest.raises(ImportError, match="pip install fiftyone"):
        detection().to_fiftyone()


def test_every_format_is_written_or_says_why_not(tmp_path):
    for make in (semantic, detection, classification):
        for name, format in FORMATS.items():
            path = tmp_path / f"{make.__name__}{format.extension}"
            try:
                make().save(path, name)
            except ValueError as error:
                assert "use" in str(error) and not path.exists()
            else:
                assert path.stat().st_size
            path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "name, format, message",
    [
        ("x.json", None, "several formats.*coco"),
        ("x.foo", None, "names no format"),
        ("x", None, "names no format"),
        ("x.png", "pgn", "format"),
    ],
)
def test_an_unclear_format_is_an_error(tmp_path, name, format, message):
    with pytest.raises(ValueError, match=message):
        semantic().save(tmp_path / name, format)
    assert list(tmp_path.iterdir()) == []
