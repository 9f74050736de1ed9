"""Every container, mode and orientation: one picture by its path, by Pillow and by its header; one set of label ids."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from openvocab.images.image_header import read_image_size
from openvocab.images.image_input import rgb_image
from openvocab.images.image_io import BadSample, read_image, read_label_map

SIZE = 24, 36
ROWS, COLUMNS = np.mgrid[: SIZE[0], : SIZE[1]]
PHOTO = np.stack([ROWS * 9, COLUMNS * 6, 255 - ROWS * 5], -1).astype(np.uint8)
LOSSLESS = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}, "AVIF": {"quality": 95, "subsampling": "4:4:4"}}
KINDS = ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "AVIF", "GIF", "PPM"]
MODES = ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"]
TURNED = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
    9: lambda pixels: pixels,
}
"""What each orientation asks for; 9 is none."""


def in_mode(mode: str) -> Image.Image:
    photo = Image.fromarray(PHOTO)
    if mode == "P":
        return photo.quantize(16)
    if mode == "I;16":
        return Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    if mode not in ("RGBA", "LA"):
        return photo.convert(mode)
    pixels = np.array(photo.convert(mode))
    pixels[..., -1] = ROWS * 5 + 50
    return Image.fromarray(pixels)


def save(path, image: Image.Image, kind: str, orientation: int | None = None, **options) -> None:
    """Save a picture of any kind; skips what this Pillow cannot write."""
    options |= LOSSLESS.get(kind, {})
    if orientation is not None and kind == "TIFF":
        options["tiffinfo"] = {0x0112: orientation}
    elif orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    try:
        image.save(path, kind, **options)
    except (OSError, KeyError, ValueError) as error:
        pytest.skip(str(error))


def check_alike(path, tolerance: int) -> np.ndarray:
    """Check that path, Pillow, bytes and header agree, and return the picture."""
    by_path = read_image(path)
    assert read_image_size(path) == by_path.shape[:2]
    assert np.array_equal(rgb_image(path.read_bytes()), by_path)
    with Image.open(path) as image:
        assert np.abs(rgb_image(image).astype(int) - by_path).max() <= tolerance
    return by_path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_a_picture_is_the_same_by_its_path_and_by_pillow(tmp_path, kind, mode):
    save(tmp_path / "x", in_mode(mode), kind)
    found = check_alike(tmp_path / "x", tolerance=kind == "JPEG")
    if mode in ("RGB", "RGBA") and kind not in ("JPEG", "GIF", "AVIF"):
        assert np.array_equal(found, PHOTO)  # without what alpha would do to it


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_colors_below_what_is_transparent_stay(tmp_path, kind):
    palette = in_mode("P")
    save(tmp_path / "x", palette, kind, transparency=3)
    assert np.array_equal(check_alike(tmp_path / "x", tolerance=0), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_a_picture_is_upright_by_its_path_and_by_pillow(tmp_path, kind, orientation):
    save(tmp_path / "x", in_mode("RGB"), kind, orientation)
    found = check_alike(tmp_path / "x", tolerance=kind == "JPEG")
    difference = np.abs(found.astype(int) - TURNED[orientation](PHOTO))
    assert difference.mean() < (6 if kind in ("JPEG", "AVIF") else 1e-9)


@pytest.mark.parametrize("compression", [None, "tiff_deflate"])
@pytest.mark.parametrize("mode", MODES)
def test_a_turned_tiff_of_any_mode_is_upright(tmp_path, mode, compression):
    """Pillow maps some of them into memory where they are not compressed, and turns those twice."""
    save(tmp_path / "x", in_mode(mode), "TIFF", 6, **({"compression": compression} if compression else {}))
    found = check_alike(tmp_path / "x", tolerance=0)
    save(tmp_path / "y", in_mode(mode), "TIFF")
    assert np.array_equal(found, np.rot90(read_image(tmp_path / "y"), -1))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_deep_colors_keep_their_high_byte_in_any_container(tmp_path, extension, channels):
    deep = np.dstack([PHOTO, ROWS * 5 + 50]).astype(np.uint16)[..., :channels] * 256 + 77
    order = [2, 1, 0, 3][:channels]
    cv2.imwrite(str(tmp_path / f"x{extension}"), deep[..., order])
    assert np.array_equal(check_alike(tmp_path / f"x{extension}", tolerance=0), PHOTO)
    cv2.imwrite(str(tmp_path / f"y{extension}"), deep[..., 0])
    assert np.array_equal(check_alike(tmp_path / f"y{extension}", tolerance=0), np.repeat(PHOTO[..., :1], 3, axis=2))


IDS = ((ROWS * SIZE[1] + COLUMNS) // 40).astype(np.uint8)
GREY, PALETTE = [value for value in range(256) for _ in range(3)], [(7 * value) % 256 for value in range(768)]


def label_image(mode: str) -> tuple[np.ndarray, Image.Image]:
    """Return label ids and an image that holds them."""
    if mode == "1":
        return IDS % 2, Image.fromarray((IDS % 2).astype(bool))
    if mode == "I;16":
        return IDS.astype(np.uint16) * 300, Image.fromarray(IDS.astype(np.uint16) * 300)
    if mode == "L":
        return IDS, Image.fromarray(IDS)
    ids = IDS % 16 if mode == "P, 16 colors" else IDS
    image = Image.frombytes("P", SIZE[::-1], ids.tobytes())
    image.putpalette(PALETTE[: 48 if mode == "P, 16 colors" else 768] if mode != "P, grays" else GREY)
    return ids, image


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "P, 16 colors", "P, grays", "I;16"])
def test_label_ids_are_the_same_in_any_container(tmp_path, kind, mode):
    ids, image = label_image(mode)
    save(tmp_path / "x", image, kind)
    found = read_label_map(tmp_path / "x")
    assert found.dtype == ids.dtype and np.array_equal(found, ids)


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_label_map_is_turned_as_its_image_is(tmp_path, kind, mode, orientation):
    ids, image = label_image(mode)
    save(tmp_path / "x", image, kind, orientation)
    assert np.array_equal(read_label_map(tmp_path / "x"), TURNED[orientation](ids))


@pytest.mark.parametrize("bits", [2, 4])
def test_grays_of_few_bits_in_a_tiff_are_ids(tmp_path, bits):
    ids = IDS[:, :32] % 2**bits
    packed = np.packbits(np.unpackbits(ids[..., None], axis=2)[..., -bits:].reshape(SIZE[0], -1), axis=1)
    tags = [(256, 32), (257, SIZE[0]), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (279, packed.size)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = struct.pack("<2sHI", b"II", 42, 8 + packed.size)
    (tmp_path / "x.tif").write_bytes(head + packed.tobytes() + directory + bytes(4))
    assert np.array_equal(read_label_map(tmp_path / "x.tif"), ids)


@pytest.mark.parametrize(
    ("kind", "mode", "reason"),
    [("JPEG", "L", "lossy"), ("AVIF", "L", "lossy"), ("WEBP", "L", "one channel"), ("PNG", "LA", "one channel"),
     ("TIFF", "LA", "one channel of 8 or 16 bits, got 2 channels"), ("TIFF", "RGB", "got 3 channels"),
     ("BMP", "RGB", "one channel"), ("PNG", "RGBA", "one channel")],
)  # fmt: skip
def test_what_can_hold_no_ids_is_refused(tmp_path, kind, mode, reason):
    save(tmp_path / "x", in_mode(mode), kind)
    with pytest.raises(BadSample, match=f"x: .*label map .*{reason}"):
        read_label_map(tmp_path / "x")


@pytest.mark.parametrize(("kind", "mode"), [("BMP", "1"), ("TIFF", "1"), ("AVIF", "RGB"), ("TIFF", "RGBA")])
def test_a_file_that_is_cut_off_is_named_whoever_decodes_it(tmp_path, kind, mode):
    save(tmp_path / "x", in_mode(mode), kind)
    content = (tmp_path / "x").read_bytes()
    for length in (len(content) // 2, len(content) - 30):
        (tmp_path / "x").write_bytes(content[:length])
        for reader in (read_image, read_label_map):
            if reader is read_image and mode == "1":
                continue  # OpenCV fills up what is missing
            with pytest.raises(BadSample) as error:
                reader(tmp_path / "x")
            assert error.value.path == str(tmp_path / "x")
