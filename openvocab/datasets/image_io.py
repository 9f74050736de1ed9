"""Images and label maps from disk, judged by their content; whatever cannot be trusted is a `BadSample`."""

import errno
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL.PngImagePlugin import PngImageFile

from openvocab.datasets.stated_size import JPEG_SCAN, JPEG_START, PNG_START, jpeg_segments, stated_size
from openvocab.printable_text import printable
from openvocab.regular_files import read_regular

JPEG_END = b"\xff\xd9"
PNG_END = b"IEND\xaeB`\x82"
PNG_GREY, PNG_PALETTE = 0, 3
MAX_PIXELS = 2**28
"""Pixels that an image may have unless an argument says otherwise: 16,384 x 16,384, which takes 1.6 GB to decode."""
PIXEL_BYTES, EXTRA_BYTES = 8, 2**26
"""What a pixel takes in a file at most (four channels of 16 bits), and 64 MiB for all that is not pixels."""
LARGE_BYTES = 1 << 28
"""Images of more bytes than this (256 MB) are not copied, where that can be spared."""
_TAKES_LARGER = "a larger max_pixels (of LoadImage and LoadLabels, or of the function that reads it) takes it"


class BadSample(ValueError):
    """A file that cannot be used as a sample: its path and one line of why."""

    def __init__(self, path: str | Path, reason: str = "") -> None:
        # A data loader rebuilds exceptions of its workers from one string, hence the default.
        super().__init__(printable(f"{path}: {reason}" if reason else str(path)))
        self.path = str(path)
        self.reason = reason


def read_image(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB.

    The format is judged by the content, not the extension. EXIF orientation is applied; grey becomes three equal
    channels; 16-bit channels keep their high byte; CMYK is converted; alpha is dropped (the colour below it stays).
    A damaged PNG is noticed by its checksums. JPEG and WebP have none: one that is cut off is noticed, one with changed
    bytes within mostly decodes to wrong pixels, here as with every other reader.

    Args:
        max_pixels: larger images are refused by what their header says, before anything is decoded: a file of 100 kB
            can hold 32,000 x 32,000 pixels. So are files of more bytes than such an image needs, by their size. None
            takes all that OpenCV takes, 2^30.

    Raises:
        BadSample: missing, no regular file, empty, truncated, too large or not an image.
    """
    return cv2.cvtColor(read_image_bgr(path, max_pixels), cv2.COLOR_BGR2RGB)


def read_image_bgr(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Read an image as `read_image` does, channels in mmcv's order (H, W, 3) BGR."""
    return decode_image_bgr(_read(path, max_pixels), path, max_pixels)


def decode_image_bgr(content: bytes, path: str | Path, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Decode the bytes of an image file as `read_image_bgr` does; `path` names them in errors.

    Raises:
        BadSample: empty, truncated, too large or not an image.
    """
    check_complete(content, path)
    _check_pixels(content, path, max_pixels)
    return _decode(path, content, cv2.IMREAD_COLOR)


def read_label_map(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Read the ids of a label map as (H, W) uint8 or uint16: palette indices of a palette PNG, else the grey values.

    Args:
        max_pixels: see `read_image`.

    Raises:
        BadSample: missing, no regular file, empty, truncated, too large, lossy (JPEG) or with more than one channel.
    """
    content = _read(path, max_pixels)
    check_complete(content, path)
    _check_pixels(content, path, max_pixels)
    if content.startswith(JPEG_START):
        raise BadSample(path, "a label map cannot be a JPEG: lossy compression changes ids; save it as PNG")
    bit_depth, color_type = (content[24], content[25]) if content.startswith(PNG_START) else (8, PNG_GREY)
    if color_type == PNG_PALETTE:
        return _read_palette(content, path)
    label_map = _decode(path, content, cv2.IMREAD_UNCHANGED)
    if label_map.ndim != 2 or label_map.dtype not in (np.uint8, np.uint16):
        raise BadSample(
            path, f"a label map has one channel of 8 or 16 bits, this one is {label_map.shape} {label_map.dtype}"
        )
    if bit_depth < 8:  # decoders spread 1, 2 or 4 bits over 0..255
        label_map //= 255 // (2**bit_depth - 1)
    return label_map


def _read_palette(content: bytes, path: str | Path) -> np.ndarray:
    try:
        with PngImageFile(BytesIO(content)) as image:  # Image.open has a limit of its own, of the whole process
            return np.array(image, dtype=np.uint8)
    except Exception as error:  # a malformed file makes Pillow raise anything
        raise BadSample(path, f"cannot be decoded ({error})") from error


def read_image_bytes(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> bytes:
    """Return the bytes of an image file as they are, after `check_complete`.

    Args:
        max_pixels: files of more bytes than an image of so many pixels needs are refused.

    Raises:
        BadSample: missing, no regular file, empty, truncated or too large.
    """
    content = _read(path, max_pixels)
    check_complete(content, path)
    return content


def check_complete(content: bytes, path: str | Path) -> None:
    """Check the bytes of an image file without decoding them.

    Raises:
        BadSample: empty, or cut off where its format has an end mark.
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
    """Return where the first scan of a JPEG starts: an embedded thumbnail before it has an end marker of its own."""
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
