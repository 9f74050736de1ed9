"""One rule says which files of a folder are samples, and every dataset follows it."""

import os
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from openvocab.datasets import ClassificationFolder
from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.few_shot import FewShotDataset
from openvocab.datasets.files.folder_walk import (
    IMAGE_EXTENSIONS,
    files_by_key,
    stored_names,
    visible_entries,
    walk_files,
)
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.images.image_header import read_image_size
from openvocab.images.image_io import BadSample, read_image

VOC = "<annotation><object><name>a</name><bndbox>{}</bndbox></object></annotation>".format(
    "".join(f"<{edge}>{value}</{edge}>" for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), (1, 1, 5, 5)))
)


def _touch(*paths) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def _names(folder) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in walk_files(folder)]


def test_files_come_sorted_part_by_part(tmp_path):
    _touch(*(tmp_path / name for name in ("b.png", "a-b/x.png", "a/y.png", "a/x.txt", "a.png")))
    assert _names(tmp_path) == sorted(["b.png", "a-b/x.png", "a/y.png", "a/x.txt", "a.png"], key=lambda n: n.split("/"))


def test_names_that_begin_with_a_dot_are_passed_over_but_not_the_folder_itself(tmp_path):
    folder = tmp_path / ".data"
    _touch(folder / "x.png", folder / "._x.png", folder / ".ipynb_checkpoints/x-checkpoint.png", folder / "a/.x.png")
    assert _names(folder) == ["x.png"]
    assert [path.name for path in visible_entries(folder)[1]] == ["a"]


def test_linked_files_and_folders_are_searched_wherever_they_lie(tmp_path):
    _touch(tmp_path / "disk/city/x.png", tmp_path / "disk/y.png", tmp_path / "im/z.png")
    (tmp_path / "im/A").symlink_to(tmp_path / "disk/city")
    (tmp_path / "im/B").symlink_to(tmp_path / "disk/city")  # the same folder in two places is there twice
    (tmp_path / "im/y.png").symlink_to(tmp_path / "disk/y.png")
    assert _names(tmp_path / "im") == ["A/x.png", "B/x.png", "y.png", "z.png"]


def test_links_that_lead_round_or_nowhere_end(tmp_path):
    _touch(tmp_path / "im/a/x.png")
    (tmp_path / "im/a/up").symlink_to(tmp_path / "im")
    (tmp_path / "im/a/here").symlink_to(".")
    (tmp_path / "im/a/above").symlink_to(tmp_path)
    (tmp_path / "im/itself").symlink_to("itself")
    (tmp_path / "im/gone.png").symlink_to("nowhere.png")
    assert _names(tmp_path / "im") == ["a/x.png", "gone.png", "itself"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(PermissionError, match="closed"):
        _names(tmp_path)


def test_keys_are_paths_without_suffix_and_extension(tmp_path):
    _touch(tmp_path / "a/x_mask.png", tmp_path / "a/x.png", tmp_path / "y.v2_mask.TIF", tmp_path / "z_mask.txt")
    (tmp_path / "folder_mask.png").mkdir()
    assert list(files_by_key(tmp_path, "_mask")) == ["a/x", "y.v2"]
    assert list(files_by_key(tmp_path, extensions=(".txt",))) == ["z_mask"]
    _touch(tmp_path / "a/x_mask.bmp")
    with pytest.raises(ValueError, match=r"x_mask\.bmp and .*x_mask\.png would be one sample, 'a/x'"):
        files_by_key(tmp_path, "_mask")


def test_accents_are_one_however_they_are_coded(tmp_path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    _touch(tmp_path / f"{apart}.png")
    assert list(files_by_key(tmp_path)) == [composed]


def test_names_of_a_list_are_spelled_as_on_the_disk(tmp_path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    _touch(tmp_path / apart / f"{composed}.png", tmp_path / apart / f"{apart}1.png", tmp_path / "x.png")
    names = [f"{composed}/{composed}.png", f"./{composed}//{composed}1.png", f"{apart}/{apart}.png", "x.png", "./x.png"]
    assert stored_names(tmp_path, names) == [
        f"{apart}/{composed}.png",
        f"{apart}/{apart}1.png",
        f"{apart}/{composed}.png",
        "x.png",
        "./x.png",
    ]
    assert stored_names(tmp_path, ["nö/é.png", f"{composed}/é.png"]) == ["nö/é.png", f"{apart}/é.png"]
    assert stored_names(tmp_path / "nowhere", ["é.png"]) == ["é.png"]
    assert stored_names(tmp_path, [f"{tmp_path}/{composed}/{composed}1.png"]) == [f"{tmp_path}/{apart}/{apart}1.png"]


def test_both_spellings_on_the_disk_are_two_files(tmp_path):
    names = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    _touch(*(tmp_path / name for name in names))
    assert stored_names(tmp_path, names) == names


def _image(path, ids=False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8) if ids else (8, 8, 3), np.uint8) + ids).save(path)


def _segmentation(folder):
    return SegmentationDataset("images", "masks", ["a", "b"], root=folder)


def _yolo(folder):
    return DetectionDataset("images", "yolo", ["a"], root=folder, test_mode=True)


def _voc(folder):
    return DetectionDataset("images", "voc", root=folder, test_mode=True)


def _few_shot(folder):
    pipeline = [LoadImage(), PackSample()]
    return FewShotDataset("images", "masks", "pascal5i", 0, "test", pipeline, root=folder, episodes=dict(count=6))


def _classification(folder):
    return ClassificationFolder("classes", "names.txt", root=folder)


READERS = [_segmentation, _yolo, _voc, _few_shot, _classification]


@pytest.fixture
def folder(tmp_path):
    """Two samples for every reader, the second behind a linked folder, between files that other programs left."""
    for place in (tmp_path, tmp_path / "disk"):
        name = "x" if place == tmp_path else "far/y"
        _image(place / f"images/{name}.png")
        _image(place / f"masks/{name}.png", ids=True)
        _image(place / f"classes/a/{name}.png")
        for kind, text in (("yolo", "0 .5 .5 .2 .2\n"), ("voc", VOC)):
            path = place / kind / f"{name}{'.txt' if kind == 'yolo' else '.xml'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for kind in ("images", "masks", "yolo", "voc"):
        (tmp_path / kind / "far").symlink_to(tmp_path / "disk" / kind / "far")
    (tmp_path / "classes/a/far").symlink_to(tmp_path / "disk/classes/a/far")
    (tmp_path / "names.txt").write_text("a\n")
    for kind in ("images", "masks", "yolo", "voc", "classes", "classes/a"):
        (tmp_path / kind / ".ipynb_checkpoints").mkdir()
        _image(tmp_path / kind / ".ipynb_checkpoints/x-checkpoint.png")
        for ending in ("png", "txt", "xml"):
            (tmp_path / kind / f"._x.{ending}").write_bytes(b"\x00\x05\x16\x07")
    return tmp_path


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_follows_links_and_passes_over_hidden_files(folder, reader):
    dataset = reader(folder)
    names = {dataset.sample_id_of(index).split(":")[-2:][0] for index in range(len(dataset))}
    expected = {"a/x.png", "a/far/y.png"} if reader is _classification else {"x", "far/y"}
    assert names == expected


@pytest.mark.parametrize("extension", sorted(IMAGE_EXTENSIONS))
def test_images_of_every_extension_can_be_read(tmp_path, extension):
    kind = {".pbm": "1", ".pgm": "L"}.get(extension, "RGB")
    Image.new(kind, (64, 48)).save(tmp_path / f"x{extension}")
    (path,) = files_by_key(tmp_path).values()
    assert read_image(path).shape == (48, 64, 3) and read_image_size(path) == (48, 64)


@pytest.mark.parametrize("extension", [".gif", ".tif", ".webp", ".avif"])
def test_the_first_of_several_frames_is_the_image(tmp_path, extension):
    first, second = (Image.new("RGB", (64, 48), color) for color in ("black", "white"))
    first.save(tmp_path / f"x{extension}", save_all=True, append_images=[second])
    assert read_image(tmp_path / f"x{extension}").max() < 10


def test_masks_as_gif_are_refused_since_their_numbers_are_not_their_grays(folder):
    (folder / "masks/x.png").unlink()
    Image.fromarray(np.array([[3, 7], [200, 7]], np.uint8)).resize((8, 8)).save(folder / "masks/x.gif")
    with pytest.raises(BadSample, match=r"x\.gif: a label map cannot be a GIF: .* palette.*; save it as PNG"):
        list(map(_segmentation(folder).__getitem__, range(2)))


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_says_which_images_it_skips(folder, logged, reader):
    place = folder / ("classes/a" if reader is _classification else "images")
    _touch(place / "p.HEIC", place / "far/q.heic", place / "r.cr2", place / "notes.txt")
    len(reader(folder))
    (message,) = (record.getMessage() for record in logged if "are skipped" in record.getMessage())
    first = place / "far/q.heic"
    assert message == (
        "images of formats that are not read are skipped: 1 .cr2, 2 .heic; the first is "
        f"{first}; convert them to PNG or JPEG"
    )


@pytest.mark.parametrize("reader", [_yolo, _voc])
def test_extensions_of_label_files_are_read_in_any_case(folder, reader):
    kind, ending = ("yolo", "txt") if reader is _yolo else ("voc", "xml")
    (folder / f"{kind}/x.{ending}").rename(folder / f"{kind}/x.{ending.upper()}")
    assert len(reader(folder).table.ids) == 2
    shutil.copy(folder / f"{kind}/x.{ending.upper()}", folder / f"{kind}/x.{ending}")
    with pytest.raises(ValueError, match="would be one sample, 'x'"):
        len(reader(folder))
