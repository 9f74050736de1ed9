"""Every kind of bad or unusual file has a defined outcome."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from openvocab.images.image_io import BadSample, read_image, read_label_map


@pytest.fixture
def photo() -> np.ndarray:
    """Smooth (40, 60, 3) RGB image: JPEG keeps it nearly."""
    rows, columns = np.mgrid[0:40, 0:60]
    return np.stack([rows * 6, columns * 4, 255 - rows * 3], axis=-1).astype(np.uint8)


def _jpeg(image: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def _reason(path, reader=read_image) -> str:
    with pytest.raises(BadSample) as caught:
        reader(path)
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_image_is_rgb_whatever_its_extension(tmp_path, photo):
    path = tmp_path / "png_named.jpg"
    cv2.imwrite(str(tmp_path / "x.png"), photo[..., ::-1])
    path.write_bytes((tmp_path / "x.png").read_bytes())
    assert np.array_equal(read_image(path), photo)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"hello, this is text", "not an image"), (b"\xff\xd8\xff\xe0\x00\x10JFIF", "truncated")],
)
def test_files_that_are_no_images_are_named(tmp_path, content, words):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    assert words in _reason(path)


def test_missing_file_and_folder_are_named(tmp_path):
    assert "No such file" in _reason(tmp_path / "absent.jpg")
    assert "directory" in _reason(tmp_path)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_truncated_files_are_refused(tmp_path, photo, share, extension):
    content = cv2.imencode(extension, photo)[1].tobytes()
    path = tmp_path / f"cut{extension}"
    path.write_bytes(content[: int(len(content) * share)])
    assert "truncated" in _reason(path)


def test_truncation_is_seen_behind_an_embedded_thumbnail(tmp_path, photo):
    thumbnail = _jpeg(Image.fromarray(photo[::8, ::8]))
    comment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    content = _jpeg(Image.fromarray(photo))
    path = tmp_path / "thumbnail.jpg"
    path.write_bytes(content[:2] + comment + content[2:])
    assert read_image(path).shape == photo.shape
    path.write_bytes((content[:2] + comment + content[2:])[:-40])
    assert "truncated" in _reason(path)


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(tmp_path, photo):
    path = tmp_path / "trailing.jpg"
    path.write_bytes(_jpeg(Image.fromarray(photo)) + b"\x00" * 100)
    assert read_image(path).shape == photo.shape


def test_gray_becomes_three_equal_channels(tmp_path, photo):
    path = tmp_path / "gray.png"
    Image.fromarray(photo[..., 0]).save(path)
    assert np.array_equal(read_image(path), np.repeat(photo[..., :1], 3, axis=-1))


def test_16_bit_keeps_the_high_byte(tmp_path, photo):
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), (photo.astype(np.uint16) * 256 + 77)[..., ::-1])
    assert np.array_equal(read_image(path), photo)


def test_alpha_is_dropped_and_the_color_stays(tmp_path, photo):
    path = tmp_path / "alpha.png"
    alpha = np.zeros_like(photo[..., :1])
    Image.fromarray(np.concatenate([photo, alpha], axis=-1)).save(path)
    assert np.array_equal(read_image(path), photo)


def test_cmyk_comes_out_in_the_right_colors(tmp_path, photo):
    path = tmp_path / "cmyk.jpg"
    path.write_bytes(_jpeg(Image.fromarray(photo).convert("CMYK")))
    assert np.abs(read_image(path).astype(int) - photo).mean() < 4


def test_exif_rotation_is_applied(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees clockwise
    path = tmp_path / "turned.jpg"
    path.write_bytes(_jpeg(Image.fromarray(photo), exif=exif))
    turned = np.rot90(photo, -1)
    assert read_image(path).shape == turned.shape
    assert np.abs(read_image(path).astype(int) - turned).mean() < 3


def test_one_pixel_is_an_image(tmp_path):
    path = tmp_path / "dot.png"
    Image.new("RGB", (1, 1), (1, 2, 3)).save(path)
    assert read_image(path).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_ids_survive(tmp_path, dtype):
    ids = np.arange(12, dtype=dtype).reshape(3, 4) * (1 if dtype == np.uint8 else 70)
    path = tmp_path / "labels.png"
    cv2.imwrite(str(path), ids)
    assert np.array_equal(read_label_map(path), ids)
    assert read_label_map(path).dtype == dtype


def test_palette_png_gives_indices_not_colors(tmp_path):
    ids = np.array([[0, 1], [20, 255]], np.uint8)
    image = Image.fromarray(ids, mode="P")
    image.putpalette([(7 * i) % 256 for i in range(768)])
    image.save(tmp_path / "voc.png")
    assert np.array_equal(read_label_map(tmp_path / "voc.png"), ids)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bit_gray_png_gives_ids(tmp_path, bits):
    ids = np.arange(8, dtype=np.uint8).reshape(2, 4) % 2**bits
    path = tmp_path / "bits.png"
    path.write_bytes(_few_bit_png(ids, bits))
    assert np.array_equal(read_label_map(path), ids)


def _few_bit_png(ids: np.ndarray, bits: int) -> bytes:
    """Write a gray PNG of 1, 2 or 4 bits by hand."""
    rows = b""
    for row in ids:
        text = "".join(format(value, f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\x00" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def test_color_and_lossy_label_maps_are_refused(tmp_path, photo):
    cv2.imwrite(str(tmp_path / "color.png"), photo)
    assert "one channel" in _reason(tmp_path / "color.png", read_label_map)
    cv2.imwrite(str(tmp_path / "lossy.png.jpg"), photo[..., 0])
    assert "JPEG" in _reason(tmp_path / "lossy.png.jpg", read_label_map)


def test_bad_sample_survives_the_way_from_a_worker(tmp_path):
    error = BadSample(tmp_path / "x.jpg", "the file is empty")
    assert str(BadSample(str(error))) == str(error)
