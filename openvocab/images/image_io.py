"""Read images and label maps, in the format that their content has; a file that cannot be used is a `BadSample`."""

import errno
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from openvocab.files.printable_text import printable
from openvocab.files.regular_files import read_regular
from openvocab.images.pil_image import load_pil, pil_orientation, upright
from openvocab.images.stated_size import (
    AVIF_BOX,
    BIG_TIFF_STARTS,
    BITS,
    EXTRA_SAMPLES,
    GIF_START,
    JPEG_SCAN,
    JPEG_START,
    PHOTOMETRIC,
    PNG_START,
    SAMPLES,
    TIFF_STARTS,
    jpeg_segments,
    stated_orientation,
    stated_size,
    tiff_entries,
)

JPEG_END = b"\xff\xd9"
PNG_END = b"IEND\xaeB`\x82"
PNG_PALETTE = 3
TIFF_PALETTE, TIFF_LAB, TIFF_ALPHA = 3, 8, (1, 2)
BMP_OLD_HEADER, BMP_BITS_OFFSETS = 12, (28, 24)
"""Length of OS/2's header; offset of the bits per pixel with today's header and with OS/2's."""
PILLOW_FORMATS = ("AVIF", "GIF", "TIFF", "BMP", "PPM")
BITMAPS = (b"P1", b"P4")
"""Starts of the one-bit PPM formats."""
MAX_PIXELS = 2**28
"""Default maximum number of pixels in an image: 16,384 x 16,384, which takes 1.6 GB to decode."""
PIXEL_BYTES, EXTRA_BYTES = 8, 2**26
"""Maximum bytes of a pixel in a file (four channels of 16 bits), and 64 MiB for everything else in the file."""
LARGE_BYTES = 1 << 28
"""Images above this size (256 MB) are not copied if that can be avoided."""
_TAKES_LARGER = "a larger max_pixels (of LoadImage and LoadLabels, or of the function that reads it) accepts it"


class BadSample(ValueError):
    """A file that cannot be used as a sample, with its path and a reason in one line."""

    def __init__(self, path: str | Path, reason: str = "") -> None:
        # A data loader rebuilds the exceptions of its workers from one string, hence the default.
        super().__init__(printable(f"{path}: {reason}" if reason else str(path)))
        self.path = str(path)
        self.reason = reason


def read_image(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB.

    The content decides the format, not the extension. The orientation in EXIF, or in the boxes of an AVIF, is applied;
    gray becomes three equal channels; 16-bit channels keep their high byte; CMYK is converted; alpha is dropped (the
    color below it stays). Checksums reveal a damaged PNG. JPEG and WebP have none: a truncated file is noticed, but one
    with changed bytes mostly decodes to wrong pixels, as in every other reader.

    Args:
        path: path of the file.
        max_pixels: images whose header states more pixels are rejected before they are decoded, since a file of 100 kB
            can hold 32,000 x 32,000 pixels; so are files of more bytes than such an image needs. None allows OpenCV's
            maximum, 2^30.

    Raises:
        BadSample: missing, no regular file, empty, truncated, too large or not an image.
    """
    return cv2.cvtColor(read_image_bgr(path, max_pixels), cv2.COLOR_BGR2RGB)


def read_image_bgr(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Read an image like `read_image`, but as (H, W, 3) uint8 BGR, mmcv's channel order."""
    return decode_image_bgr(_read(path, max_pixels), path, max_pixels)


def decode_image_bgr(content: bytes, path: str | Path, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Decode the bytes of an image file to (H, W, 3) uint8 BGR like `read_image_bgr`; `path` names them in errors.

    Raises:
        BadSample: empty, truncated, too large or not an image.
    """
    check_complete(content, path)
    _check_pixels(content, path, max_pixels)
    is_tiff = _is_tiff(content)
    # OpenCV does not rotate an AVIF, and paints the transparent pixels of a GIF
    if content[4:8] == AVIF_BOX or content.startswith(GIF_START) or (is_tiff and _is_mistaken_tiff(content)):
        picture = _decode_by_pillow(path, content)
        return upright(np.asarray(picture.convert("RGB"))[..., ::-1], pil_orientation(picture))
    image = _decode(path, content, cv2.IMREAD_COLOR | (cv2.IMREAD_ANYDEPTH if is_tiff else 0))
    if image.dtype not in (np.uint8, np.uint16):
        raise BadSample(path, f"expected an image of 8 or 16 bits, got {image.dtype}")
    return image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)  # of a TIFF, which OpenCV would round


def read_label_map(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Read the ids of a label map as (H, W) uint8 or uint16: indices if it has a palette, else gray values.

    Grays of 1, 2 or 4 bits are the numbers up to 1, 3 or 15, in any format. The orientation is applied as to an image.

    Args:
        path: path of the file.
        max_pixels: see `read_image`.

    Raises:
        BadSample: missing, no regular file, empty, truncated, too large, lossy (JPEG, AVIF), a GIF, or with more than
            one channel.
    """
    content = read_lossless(path, max_pixels)
    is_png = content.startswith(PNG_START)
    bits, has_palette = _bits_and_palette(path, content)
    if has_palette or (bits < 8 and not is_png):
        label_map = np.array(_decode_by_pillow(path, content))
    else:
        label_map = _decode(path, content, cv2.IMREAD_UNCHANGED)
    if label_map.dtype == bool:
        label_map = label_map.astype(np.uint8)
    elif bits < 8 and not has_palette:  # decoders scale 1, 2 or 4 bits to 0..255
        label_map = label_map // (255 // (2**bits - 1))
    if label_map.ndim != 2 or label_map.dtype not in (np.uint8, np.uint16):
        raise BadSample(
            path, f"expected a label map with one channel of 8 or 16 bits, got {label_map.shape} {label_map.dtype}"
        )
    return (
        upright(label_map, stated_orientation(BytesIO(content))) if is_png else label_map
    )  # OpenCV rotates a TIFF itself


def read_lossless(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> bytes:
    """Return the bytes of a label map, after a check that its format keeps every pixel as it was.

    Raises:
        BadSample: missing, no regular file, empty, truncated, too large, lossy (JPEG, AVIF), or a GIF.
    """
    content = _read(path, max_pixels)
    check_complete(content, path)
    _check_pixels(content, path, max_pixels)
    lossy = "lossy compression changes ids"
    for name, is_such, reason in (
        ("a JPEG", content.startswith(JPEG_START), lossy),
        ("an AVIF", content[4:8] == AVIF_BOX, lossy),
        ("a GIF", content.startswith(GIF_START), "it holds indices into a palette, which programs reorder"),
    ):
        if is_such:
            raise BadSample(path, f"a label map cannot be {name}: {reason}; save it as PNG")
    return content


def _bits_and_palette(path: str | Path, content: bytes) -> tuple[int, bool]:
    """Return the bits of a channel, 8 if the format cannot have fewer, and whether pixels are indices into a palette.

    Raises:
        BadSample: a TIFF of several channels, of which OpenCV may return the first.
    """
    if content.startswith(PNG_START):
        return content[24], content[25] == PNG_PALETTE
    if _is_tiff(content):
        entries = tiff_entries(BytesIO(content))
        if entries.get(SAMPLES, 1) != 1:
            raise BadSample(
                path, f"expected a label map with one channel of 8 or 16 bits, got {entries[SAMPLES]} channels"
            )
        return entries.get(BITS, 1), entries.get(PHOTOMETRIC) == TIFF_PALETTE
    if content.startswith(b"BM"):
        offset = BMP_BITS_OFFSETS[int.from_bytes(content[14:18], "little") == BMP_OLD_HEADER]
        bits = int.from_bytes(content[offset : offset + 2], "little")
        return min(bits, 8), bits <= 8
    return (1 if content.startswith(BITMAPS) else 8), False


def _decode_by_pillow(path: str | Path, content: bytes) -> Image.Image:
    is_png = content.startswith(PNG_START)
    try:
        # unlike Image.open, which has a global limit of pixels, PngImageFile has none
        image = PngImageFile(BytesIO(content)) if is_png else Image.open(BytesIO(content), formats=PILLOW_FORMATS)
        load_pil(image)
    except Exception as error:  # a malformed file makes Pillow raise anything
        raise BadSample(path, f"cannot be decoded ({error})") from error
    return image


def _is_tiff(content: bytes) -> bool:
    return content[:4] in (*TIFF_STARTS, *BIG_TIFF_STARTS)


def _is_mistaken_tiff(content: bytes) -> bool:
    """Return whether OpenCV decodes wrong colors: it darkens them by alpha, and reads Lab as RGB."""
    entries = tiff_entries(BytesIO(content))
    return entries.get(EXTRA_SAMPLES) in TIFF_ALPHA or entries.get(PHOTOMETRIC) == TIFF_LAB


def read_image_bytes(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> bytes:
    """Return the bytes of an image file, unchanged, after `check_complete`.

    Args:
        path: path of the file.
        max_pixels: a file that has more bytes than an image of this many pixels needs is rejected.

    Raises:
        BadSample: missing, no regular file, empty, truncated or too large.
    """
    content = _read(path, max_pixels)
    check_complete(content, path)
    return content


def check_complete(content: bytes, path: str | Path) -> None:
    """Check the bytes of an image file without decoding them.

    Raises:
        BadSample: empty, or, in a format with an end mark, truncated.
    """
    if not content:
        raise BadSample(path, "the file is empty")
    if content.startswith(JPEG_START) and content.rfind(JPEG_END, _scan_offset(content)) < 0:
        raise BadSample(path, "truncated JPEG (no end marker after its scan)")
    if content.startswith(PNG_START) and (len(content) < 33 or content.rfind(PNG_END) < 0):
        raise BadSample(path, "truncated PNG (no end chunk)")


def _check_pixels(content: bytes, path: str | Path, max_pixels: int | None) -> None:
    try:
        height, width = stated_size(BytesIO(content))
    except ValueError as error:
        raise BadSample(path, str(error)) from error
    if min(height, width) < 1:
        raise BadSample(path, f"{width} x {height} pixels by its header")
    if max_pixels is not None and height * width > max_pixels:
        raise BadSample(
            path,
            f"{width} x {height} pixels by its header, more than max_pixels={max_pixels}; {_TAKES_LARGER}",
        )


def _read(path: str | Path, max_pixels: int | None) -> bytes:
    try:
        return read_regular(path, None if max_pixels is None else PIXEL_BYTES * max_pixels + EXTRA_BYTES)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        too_large = f", all that max_pixels={max_pixels} can need; {_TAKES_LARGER}"
        raise BadSample(path, reason + too_large * (error.errno == errno.EFBIG)) from error
    except ValueError as error:  # a name with a NUL character
        raise BadSample(path, str(error)) from error


def _scan_offset(content: bytes) -> int:
    """Return the offset of the first scan of a JPEG: a thumbnail before it has an end marker of its own."""
    segments = jpeg_segments(BytesIO(content))
    return next((offset for marker, offset in segments if marker == JPEG_SCAN), len(content))


def _decode(path: str | Path, content: bytes, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise BadSample(path, f"cannot be decoded ({error.err})") from error
    if image is None:
        raise BadSample(path, f"not an image that can be decoded (starts with {content[:12]!r})")
    return image
