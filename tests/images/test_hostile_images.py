"""Pictures that claim to be enormous, or whose headers are odd: bad samples with a path, and no memory taken."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from time_limit import time_limit

from openvocab.datasets import (
    CaptionDataset,
    ClassificationFolder,
    DetectionDataset,
    FewShotDataset,
    SegmentationDataset,
)
from openvocab.datasets.transforms import LoadImage, LoadInstances, LoadLabels, PackSample, Resize, ResizeCenterCrop
from openvocab.images.image_header import read_image_size
from openvocab.images.image_input import rgb_image
from openvocab.images.image_io import BadSample, read_image, read_image_bytes, read_label_map

SIZE = 40, 60
ENORMOUS = 50_000


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bomb(palette: bool, side: int = ENORMOUS) -> bytes:
    """A PNG of `side` x `side` pixels in some hundred bytes: it ends after a row or two."""
    header = struct.pack(">IIBBBBB", side, side, 8, 3 if palette else 0, 0, 0, 0)
    table = chunk(b"PLTE", bytes(768)) if palette else b""
    rows = zlib.compress(bytes(2 * (side + 1)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + table + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def saved(kind: str, image: Image.Image | None = None, **options) -> bytes:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    image = image or Image.fromarray(np.stack([rows * 6, columns * 4, 255 - rows * 3], -1).astype(np.uint8))
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def exif(value: bytes, kind: int = 3, order: str = "<") -> bytes:
    entry = struct.pack(order + "HHI", 0x0112, kind, 1) + value.ljust(4, b"\0")
    start = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + start + struct.pack(order + "IH", 8, 1) + entry + struct.pack(order + "I", 0)


def enlarged(content: bytes, kind: str) -> bytes:
    """Write `ENORMOUS` into the header of a picture of `SIZE`."""
    content = bytearray(content)
    side = {"WEBP": 16383, "GIF": 60_000, "JPEG": 60_000}.get(kind, ENORMOUS)
    forms = {"WEBP": "<HH", "GIF": "<HH", "JPEG": ">HH", "BMP": "<ii", "TIFF": "<I", "JPEG2000": ">II"}
    pair = SIZE if kind == "JPEG" else SIZE[::-1]
    if kind == "TIFF":
        for value in SIZE:
            place = content.find(struct.pack("<HHI", 257 if value == SIZE[0] else 256, 4, 1)) + 8
            content[place : place + 4] = struct.pack("<I", side)
        return bytes(content)
    form = forms[kind]
    start = content.find(b"\xff\x4f\xff\x51") if kind == "JPEG2000" else 0  # what its decoder goes by
    place = content.find(struct.pack(form, *pair), start)
    assert place > 0
    content[place : place + struct.calcsize(form)] = struct.pack(form, side, side)
    return bytes(content)


@pytest.fixture
def folder(tmp_path):
    """Three photos with label maps, captions, boxes in three formats; the second is to be spoilt."""
    for name in ("images", "labels", "yolo", "voc", "classes/cat"):
        (tmp_path / name).mkdir(parents=True)
    photo, label_map = saved("PNG"), saved("PNG", Image.fromarray(np.ones(SIZE, np.uint8)))
    for name in "abc":
        (tmp_path / f"images/{name}.png").write_bytes(photo)
        (tmp_path / f"classes/cat/{name}.png").write_bytes(photo)
        (tmp_path / f"labels/{name}.png").write_bytes(label_map)
        (tmp_path / f"yolo/{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
        (tmp_path / f"voc/{name}.xml").write_text(f"<annotation><object><name>cat</name>{box}</object></annotation>")
    images = ", ".join(f'{{"id": {n}, "file_name": "{name}.png"}}' for n, name in enumerate("abc"))
    boxes = ", ".join(f'{{"image_id": {n}, "category_id": 1, "bbox": [1, 2, 29, 18]}}' for n in range(3))
    coco = f'{{"images": [{images}], "annotations": [{boxes}], "categories": [{{"id": 1, "name": "cat"}}]}}'
    (tmp_path / "coco.json").write_text(coco)
    (tmp_path / "c.jsonl").write_text("".join(f'{{"image": "images/{n}.png", "captions": ["x"]}}\n' for n in "abc"))
    (tmp_path / "classes.txt").write_text("cat\n")
    return tmp_path


def dataset(kind: str, folder, **options):
    options |= {"root": folder}
    if kind in ("yolo", "voc", "coco.json"):
        return DetectionDataset("images", kind, ["cat"], **options)
    if kind == "captions":
        return CaptionDataset("c.jsonl", **options)
    if kind == "classes":
        return ClassificationFolder("classes", "classes.txt", **options)
    return SegmentationDataset("images", "labels", ["cat", "dog"], **options)


KINDS = {
    "segmentation": "images/b.png",
    "label maps": "labels/b.png",
    "yolo": "images/b.png",
    "voc": "images/b.png",
    "coco.json": "images/b.png",
    "captions": "images/b.png",
    "classes": "classes/cat/b.png",
}


@pytest.mark.parametrize("palette", [False, True], ids=["gray", "palette"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_is_a_bad_sample_of_every_data_set(folder, kind, palette):
    (folder / KINDS[kind]).write_bytes(png_bomb(palette))
    with pytest.raises(BadSample, match=r"b\.png: 50000 x 50000 pixels .* more than max_pixels=268435456; a larger"):
        [item["sample"] for item in map(dataset(kind, folder).__getitem__, range(3))]
    skipping = dataset(kind, folder, loading=dict(bad_samples="skip", max_bad_share=0.4))
    assert [skipping[index]["image"].shape[1:] for index in range(3)] == [SIZE] * 3
    assert skipping.bad_sample_paths == [str(folder / KINDS[kind].replace("labels", "images"))]


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "GIF", "WEBP", "TIFF", "JPEG2000"])
def test_every_format_is_judged_by_its_header(tmp_path, kind):
    path = tmp_path / "x.jpg"
    options = {"lossless": False} if kind == "WEBP" else {}
    path.write_bytes(saved(kind, **options))
    assert read_image_size(path) == read_image(path).shape[:2] == SIZE
    path.write_bytes(enlarged(path.read_bytes(), kind))
    for reader in (read_image, read_label_map):
        with pytest.raises(BadSample, match="more than max_pixels|cannot be a JPEG") as error:
            reader(path, max_pixels=10**8)
        assert str(path) in str(error.value)
    assert min(read_image_size(path)) >= 16_383


def test_a_picture_beyond_the_limit_of_pillow_is_named(tmp_path):
    path = tmp_path / "x.ppm"
    path.write_bytes(b"P6 20000 10000 255\n")
    for reader in (read_image, read_label_map, read_image_size, rgb_image):
        with pytest.raises(BadSample, match=r"x\.ppm: .*exceeds limit"):
            reader(path)


def jpeg_with_two_sizes() -> bytes:
    """A JPEG whose true size comes late: a marker that has no length stands before what would be one."""
    false = b"\xff\xc0\x00\x11\x08\x00\x0a\x00\x0a\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xda\x00\x0c"
    comment = bytearray(65533)
    comment[0xFFDC : 0xFFDC + len(false)] = false  # where 0xFFE0 bytes, the marker that follows, would lead
    return b"\xff\xd8\xff\x01\xff\xe0\xff\xff" + bytes(comment) + saved("JPEG")[2:]


def tiff_with_sides(order: str, big: bool, kind: int) -> bytes:
    """A gray TIFF of `SIZE` whose width and height are of a type of eight bytes."""
    strip = zlib.compress(bytes(SIZE[0] * SIZE[1]))
    start = 16 if big else 8
    content = struct.pack(order + "QQ", *SIZE[::-1]) + strip + bytes(len(strip) % 2)
    sides = SIZE[::-1] if big else (start, start + 8)
    entries = [(256, kind, sides[0]), (257, kind, sides[1]), (258, 3, 8), (259, 3, 8), (262, 3, 1)]
    entries += [(273, 4, start + 16), (277, 3, 1), (278, 4, SIZE[0]), (279, 4, len(strip))]
    width = 8 if big else 4
    forms = {3: "H", 4: "I", 16: "Q" if big else "I", 17: "Q"}
    directory = struct.pack(order + ("Q" if big else "H"), len(entries))
    for tag, form, value in entries:
        directory += struct.pack(order + "HH" + ("Q" if big else "I"), tag, form, 1)
        directory += struct.pack(order + forms[form], value).ljust(width, b"\0")
    place = start + len(content)
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(order + "HHHQ", 43, 8, 0, place) if big else struct.pack(order + "HI", 42, place)
    return mark + head + content + directory + bytes(width)


@pytest.mark.parametrize(
    "content",
    [
        jpeg_with_two_sizes(),
        tiff_with_sides("<", False, 16),
        tiff_with_sides(">", False, 16),
        tiff_with_sides(">", True, 17),
    ],
    ids=["jpeg", "tiff, little", "tiff, big", "big tiff"],
)
def test_a_header_does_not_say_one_size_and_mean_another(tmp_path, content):
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape[:2] == SIZE  # the decoder knows better
    with pytest.raises(BadSample, match=r"x\.jpg: .*(more than max_pixels=200|malformed)"):
        read_image(path, max_pixels=200)


def test_a_big_tiff_is_read(tmp_path):
    (tmp_path / "x.tif").write_bytes(tiff_with_sides("<", True, 16))
    assert read_image_size(tmp_path / "x.tif") == read_image(tmp_path / "x.tif").shape[:2] == SIZE


def test_an_argument_takes_larger_pictures(folder):
    too_small = [LoadImage(max_pixels=100), LoadLabels(), PackSample()]
    with pytest.raises(BadSample, match=r"a\.png: 60 x 40 pixels .* more than max_pixels=100"):
        dataset("segmentation", folder, pipeline=too_small)[0]
    with pytest.raises(BadSample, match=r"labels/a\.png: 60 x 40 pixels .* more than max_pixels=100"):
        dataset("segmentation", folder, pipeline=[LoadImage(), LoadLabels(max_pixels=100), PackSample()])[0]
    for limit in (40 * 60, None):
        pipeline = [LoadImage(max_pixels=limit), LoadLabels(max_pixels=limit), PackSample()]
        assert dataset("segmentation", folder, pipeline=pipeline)[0]["image"].shape == (3, *SIZE)


def test_sizes_of_any_picture_are_read_since_nothing_is_decoded(tmp_path):
    (tmp_path / "x.png").write_bytes(png_bomb(palette=False, side=200_000))
    assert read_image_size(tmp_path / "x.png") == (200_000, 200_000)
    with pytest.raises(BadSample, match=r"x\.png: .*header states 0 x 0"):
        (tmp_path / "x.png").write_bytes(png_bomb(palette=False, side=0))
        read_image_size(tmp_path / "x.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("entry", "turned"),
    [
        (exif(b"\x06\0"), True),
        (exif(b"\0\x06", order=">"), True),
        (exif(b"\x06\0\0\0", kind=4), True),
        (exif(b"\x09\0"), False),
        (exif(b"6\0", kind=2), False),
        (exif(b"\x06\0")[:20], False),
        (exif(b"\x06\0")[:9], False),
    ],
    ids=["6", "big endian", "long", "nine", "text", "cut off", "nothing"],
)
def test_an_odd_orientation_is_taken_as_the_decoder_takes_it(tmp_path, kind, entry, turned):
    path = tmp_path / "x.png"
    path.write_bytes(saved(kind, exif=entry))
    expected = SIZE[::-1] if turned else SIZE
    assert read_image_size(path) == read_image(path).shape[:2] == expected


def test_a_turned_tiff_has_the_size_of_its_decoded_picture(tmp_path):
    for orientation in (1, 3, 6, 8, 9):
        (tmp_path / "x.tif").write_bytes(saved("TIFF", tiffinfo={274: orientation}))
        assert read_image_size(tmp_path / "x.tif") == read_image(tmp_path / "x.tif").shape[:2]


@pytest.mark.parametrize(
    "content", [b"", b"GIF8", b"BM", b"RIFF\0\0\0\0WEBPVP8 ", b"II*\0\xff\xff\xff\xff", b"\xff\xd8\xff"]
)
def test_a_header_that_is_cut_off_names_the_file(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    for reader in (read_image, read_label_map, read_image_size):
        with pytest.raises(BadSample, match=r"x\.png"):
            reader(tmp_path / "x.png")


SPOILT = [("yolo", "images/b.png"), ("voc", "images/b.png"), ("coco.json", "images/b.png"), ("yolo", "yolo/b.txt"),
          ("voc", "voc/b.xml")]  # fmt: skip


@pytest.mark.parametrize(("kind", "spoilt"), SPOILT)
def test_a_file_of_one_image_that_is_broken_costs_that_image(folder, kind, spoilt):
    (folder / spoilt).write_bytes(b"\xff\xfe[[[")
    with pytest.raises(BadSample, match=spoilt.replace(".", r"\.")):
        len(dataset(kind, folder))
    with pytest.raises(BadSample, match=spoilt.replace(".", r"\.")):
        len(dataset(kind, folder, test_mode=True))
    skipping = dataset(kind, folder, loading=dict(bad_samples="skip"))
    found = [skipping[index]["sample"] for index in range(len(skipping))]
    assert [sample.sample_id for sample in found] == (["0", "2"] if kind == "coco.json" else ["a", "c"])
    assert all(len(sample.instances.boxes) == 1 for sample in found)
    assert skipping.bad_sample_paths == [str(folder / spoilt)]


def pipe(path) -> None:
    """Put a named pipe, into which nobody writes, in the place of a file."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


NEEDS_PIPES = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@NEEDS_PIPES
@pytest.mark.parametrize(("kind", "spoilt"), [*KINDS.items(), *SPOILT])
def test_a_pipe_is_a_bad_sample_of_every_data_set(folder, kind, spoilt):
    pipe(folder / spoilt)
    with time_limit(30), pytest.raises(BadSample, match=spoilt.replace(".", r"\.") + ".*not a regular file"):
        [item["sample"] for item in map(dataset(kind, folder).__getitem__, range(3))]
    with time_limit(30):
        skipping = dataset(kind, folder, loading=dict(bad_samples="skip", max_bad_share=0.4))
        [skipping[index] for index in range(len(skipping))]
    assert skipping.bad_sample_paths == [str(folder / spoilt.replace("labels", "images"))]


@NEEDS_PIPES
def test_pipes_devices_and_folders_are_no_pictures(tmp_path):
    pipe(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    readers = read_image, read_label_map, read_image_size, read_image_bytes, rgb_image
    for name, reason in (("pipe", "not a regular file"), ("zero", "not a regular file"), ("folder", "irectory|folder")):
        for reader in readers:
            with time_limit(30), pytest.raises(ValueError, match=rf"{name}\.png.*({reason})"):
                reader(tmp_path / f"{name}.png")


def sparse(path, start: bytes, size: int):
    """Write a file of any size that takes next to nothing on the disk."""
    path.write_bytes(start)
    os.truncate(path, size)
    return path


def test_more_bytes_than_a_picture_can_need_are_not_read(folder):
    limit = 8 * 2**28 + 2**26
    path = sparse(folder / "images/b.png", saved("PNG"), limit + 1)
    for reader in (read_image, read_label_map, read_image_bytes):
        with pytest.raises(
            BadSample, match=rf"b\.png: {limit + 1} bytes, more than {limit}, all .* max_pixels=268435456"
        ):
            reader(path)
    small = sparse(folder / "images/c.png", saved("PNG"), 8 * 2400 + 2**26 + 1)
    with pytest.raises(BadSample, match=r"c\.png: 67128065 bytes, more than 67128064, .* max_pixels=2400 .*; a larger"):
        read_image(small, max_pixels=2400)
    os.truncate(small, 8 * 2400 + 2**26)
    assert read_image(small, max_pixels=2400).shape[:2] == SIZE
    skipping = dataset("segmentation", folder, loading=dict(bad_samples="skip", max_bad_share=0.4))
    assert [skipping[index]["image"].shape[1:] for index in range(3)] == [SIZE] * 3
    assert skipping.bad_sample_paths == [str(path)]


@pytest.mark.parametrize("start", [saved("PNG"), saved("WEBP"), saved("PNG")[:33], b"P6 #"], ids=[
    "png", "webp", "png, cut off", "ppm"])  # fmt: skip
def test_the_size_of_a_picture_is_found_without_walking_to_its_end(tmp_path, start):
    path = sparse(tmp_path / "x.png", start, 1 << 39)
    with time_limit(30):
        if start.startswith(b"P6"):
            with pytest.raises(BadSample, match=r"x\.png: cannot be read as an image"):
                read_image_size(path)
        else:
            assert read_image_size(path) == SIZE


@pytest.mark.parametrize(("kind", "name"), [("yolo", "yolo/b.txt"), ("voc", "voc/b.xml")])
def test_a_label_file_of_any_size_costs_its_image(folder, kind, name):
    sparse(folder / name, b"", 2**26 + 1)
    skipping = dataset(kind, folder, loading=dict(bad_samples="skip"))
    assert len(skipping) == 2 and skipping.bad_sample_paths == [str(folder / name)]
    with pytest.raises(BadSample, match=r"b\.(txt|xml): .*67108865 bytes, more than 67108864"):
        len(dataset(kind, folder))


def test_too_many_files_that_are_broken_stop_the_run(folder):
    for name in "ab":
        (folder / f"yolo/{name}.txt").write_text("0 0.5\n")
    with pytest.raises(
        ValueError, match=r"2 of 3 samples are bad, more than loading\.max_bad_share=0.01:\s+.*a\.txt.*\s+.*b\.txt"
    ):
        len(dataset("yolo", folder, loading=dict(bad_samples="skip")))


def test_label_maps_that_few_shot_pairs_are_searched_in(folder):
    options = dict(fold=0, part="train", pipeline=[LoadImage(), LoadLabels(), PackSample()], root=folder)
    (folder / "labels/b.png").write_bytes(png_bomb(palette=True))
    for name in "ac":
        cv2.imwrite(str(folder / f"labels/{name}.png"), np.full(SIZE, 6, np.uint8))
    with pytest.raises(BadSample, match=r"labels/b\.png: 50000 x 50000"):
        len(FewShotDataset("images", "labels", "pascal5i", **options))
    skipping = FewShotDataset("images", "labels", "pascal5i", loading=dict(bad_samples="skip"), **options)
    assert len(skipping) == 2 and skipping.bad_sample_paths == [str(folder / "labels/b.png")]


@pytest.mark.parametrize("resize", [Resize(short_side=512), ResizeCenterCrop((224, 224), short_side=256)])
@pytest.mark.parametrize("size", [(1, 8000), (16_000, 1)])
def test_a_narrow_picture_is_not_blown_up_to_billions_of_pixels(folder, resize, size):
    (folder / "images/b.png").write_bytes(saved("PNG", Image.fromarray(np.zeros((*size, 3), np.uint8))))
    pipeline = [LoadImage(), resize, PackSample()]
    if max(size) * 512 * 512 > 2**31:
        with pytest.raises(BadSample, match=rf"images/b\.png: {size[1]} x {size[0]} pixels .* would become"):
            dataset("captions", folder, pipeline=pipeline)[1]
    bounded = [LoadImage(), Resize(short_side=512, max_long_side=1024), PackSample()]
    assert max(dataset("captions", folder, pipeline=bounded)[1]["image"].shape) == 1024


def test_masks_that_would_fill_the_memory_are_refused_by_number(folder):
    (folder / "yolo/b.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n" * 9)
    for name in "ac":
        (folder / f"yolo/{name}.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    pipeline = [LoadImage(), LoadInstances(max_mask_bytes=8 * 40 * 60), PackSample()]
    masked = dataset("yolo", folder, pipeline=pipeline, with_masks=True)
    assert masked[0]["sample"].instances.masks.shape == (1, *SIZE)
    with pytest.raises(
        BadSample, match=r"b\.png: the masks of its 9 objects would take more than max_mask_bytes=19200"
    ):
        masked[1]


def test_names_of_files_are_printed_without_what_a_terminal_would_obey(tmp_path):
    path = tmp_path / "a\x1b[2J\nb\udcff.png"
    with pytest.raises(BadSample) as error:
        read_image(path)
    assert r"a\x1b[2J\nb\udcff.png: No such file" in str(error.value) and str(error.value).isprintable()
    with pytest.raises(BadSample, match="null byte"):
        read_image(tmp_path / "a\0.png")
