"""Read the size and orientation in the header of an image file, without decoding a pixel."""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

from PIL import Image

from openvocab.structures import Size

JPEG_START, JPEG_SCAN = b"\xff\xd8", 0xDA
JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the others are tables
JPEG_APP1 = 0xE1
JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
PNG_START = b"\x89PNG\r\n\x1a\n"
GIF_START = b"GIF8"
TIFF_STARTS = {b"II*\0": "<", b"MM\0*": ">"}
BIG_TIFF_STARTS = {b"II+\0": "<", b"MM\0+": ">"}
JPEG_2000_BOX, JPEG_2000_STREAM = b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"
AVIF_BOX, AVIF_BYTES = b"ftyp", 2**28  # no image of 2^28 pixels takes more
PPM_HEADER_BYTES = 2**16
EXIF_START = b"Exif\0\0"
WIDTH, HEIGHT, ORIENTATION = 0x0100, 0x0101, 0x0112
BITS, PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES = 0x0102, 0x0106, 0x0115, 0x0152
TURNED = range(5, 9)
"""Orientations that swap width and height."""
SHORT_TYPE, LONG_TYPE, LONG8_TYPE = 3, 4, 16
MAX_ENTRIES = 4096
_MALFORMED = (struct.error, KeyError, IndexError, OverflowError, OSError)  # the last two: an offset beyond any file


def stated_size(file: BinaryIO) -> Size:
    """Return (height, width) of the pixels in an image file, before any rotation.

    The usual formats of datasets have readers here, since Pillow's limit of pixels is a global setting of the process,
    and Pillow reads a complete PNG. The other formats are left to Pillow.

    Raises:
        ValueError: none of the formats, or a header that is truncated or malformed.
    """
    start = _at(file, 0, 32)
    try:
        if start.startswith(JPEG_START):
            return _jpeg_size(file)
        if start.startswith(PNG_START):
            return struct.unpack(">II", start[16:24])[::-1]
        if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
            return _webp_size(start)
        if start.startswith(GIF_START):
            return struct.unpack("<HH", start[6:10])[::-1]
        if start.startswith(b"BM"):
            return _bmp_size(start)
        if start[:4] in TIFF_STARTS or start[:4] in BIG_TIFF_STARTS:
            entries = tiff_entries(file)
            return entries[HEIGHT], entries[WIDTH]
        if start.startswith((JPEG_2000_BOX, JPEG_2000_STREAM)):
            return _jpeg_2000_size(file)
        return _size_by_pillow(file, AVIF_BYTES if start[4:8] == AVIF_BOX else PPM_HEADER_BYTES)
    except _MALFORMED as error:
        raise ValueError("its header is cut off or malformed") from error


def stated_orientation(file: BinaryIO) -> int:
    """Return the EXIF orientation of an image file, 1 to 8; 1 (upright) if it states none."""
    start = _at(file, 0, 12)
    try:
        if start[4:8] == AVIF_BOX:
            return _avif_orientation(file)
        if start.startswith(JPEG_START):
            exif = next(_jpeg_exif(file), None)
        elif start.startswith(PNG_START):
            exif = next((offset for name, offset in _chunks(file, 8, ">", 4) if name == b"eXIf"), None)
        elif start.startswith(b"RIFF") and start[8:12] == b"WEBP":
            exif = next((offset for name, offset in _chunks(file, 12, "<", 0) if name == b"EXIF"), None)
        else:
            exif = 0 if start[:4] in TIFF_STARTS or start[:4] in BIG_TIFF_STARTS else None
    except _MALFORMED:
        return 1
    return 1 if exif is None else exif_orientation(file, exif)


def exif_orientation(file: BinaryIO, offset: int = 0) -> int:
    """Return the orientation, 1 to 8, in the EXIF block at an offset of a file; 1 (upright) if none can be read.

    As in OpenCV, the first two bytes of the entry count, whatever its type, and values outside 1 to 8 are ignored.
    """
    try:
        if _at(file, offset, len(EXIF_START)) == EXIF_START:
            offset += len(EXIF_START)
        value = tiff_entries(file, offset).get(ORIENTATION, 1)
    except _MALFORMED:
        return 1
    return value if value in range(1, 9) else 1


def jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield (marker, offset of the marker) of a JPEG up to its first scan; ends early if the file is truncated."""
    position = 2
    while len(head := _at(file, position, 4)) == 4 and head[0] == 0xFF:
        marker = head[1]
        if marker != 0xFF:
            yield marker, position
        if marker == JPEG_SCAN:
            return
        if marker == 0xFF:
            position += 1
        elif marker in JPEG_WITHOUT_LENGTH:
            position += 2
        else:
            position += 2 + int.from_bytes(head[2:], "big")


def tiff_entries(file: BinaryIO, base: int = 0) -> dict[int, int]:
    """Return {tag: value} of the integers in the first directory of a TIFF or EXIF block that starts at `base`.

    Raises:
        KeyError: width or height is not an unsigned integer.
    """
    start = _at(file, base, 16)
    big = start[:4] in BIG_TIFF_STARTS
    order = BIG_TIFF_STARTS[start[:4]] if big else TIFF_STARTS[start[:4]]
    offset = base + struct.unpack(order + ("Q" if big else "I"), start[8:16] if big else start[4:8])[0]
    count_form, entry_size, value_offset = ("Q", 20, 12) if big else ("H", 12, 8)
    count_size = struct.calcsize("<" + count_form)
    count = struct.unpack(order + count_form, _at(file, offset, count_size))[0]
    content = _at(file, offset + count_size, min(count, MAX_ENTRIES) * entry_size)
    entries: dict[int, int] = {}
    for entry in range(0, len(content) - entry_size + 1, entry_size):
        tag, type_number = struct.unpack(order + "HH", content[entry : entry + 4])
        if tag in (WIDTH, HEIGHT) and type_number not in (SHORT_TYPE, LONG_TYPE, *[LONG8_TYPE] * big):
            raise KeyError(f"a side of type {type_number}")
        is_short = type_number == SHORT_TYPE or tag == ORIENTATION
        form = "H" if is_short else "Q" if big and type_number == LONG8_TYPE else "I"
        value = content[entry + value_offset : entry + value_offset + struct.calcsize("<" + form)]
        entries.setdefault(tag, struct.unpack(order + form, value)[0])
    return entries


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _jpeg_size(file: BinaryIO) -> Size:
    for marker, offset in jpeg_segments(file):
        if marker in JPEG_FRAMES:
            return struct.unpack(">HH", _at(file, offset + 5, 4))
    raise KeyError("no frame")


def _jpeg_exif(file: BinaryIO) -> Iterator[int]:
    for marker, offset in jpeg_segments(file):
        if marker == JPEG_APP1 and _at(file, offset + 4, len(EXIF_START)) == EXIF_START:
            yield offset + 4


def _chunks(file: BinaryIO, first: int, order: str, tail: int) -> Iterator[tuple[bytes, int]]:
    """Yield (name, offset of the content) of the chunks of a PNG or WebP.

    Ends at the first invalid name: otherwise zeros, of which a sparse file can hold any number, would be empty chunks.

    Args:
        file: the open image file.
        first: offset of the first chunk.
        order: byte order, ">" in a PNG and "<" in a WebP.
        tail: number of bytes after each content.
    """
    position = first
    while len(head := _at(file, position, 8)) == 8:
        name, length_bytes = (head[4:], head[:4]) if order == ">" else (head[:4], head[4:])
        if not name.rstrip().isalnum():
            return
        yield name, position + 8
        length = struct.unpack(f"{order}I", length_bytes)[0]
        position += 8 + length + tail + (length % 2 if order == "<" else 0)


def _webp_size(start: bytes) -> Size:
    chunk = start[12:16]
    if chunk == b"VP8X":
        width, height = (1 + int.from_bytes(start[offset : offset + 3], "little") for offset in (24, 27))
    elif chunk == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", start[26:30]))
    return height, width


def _bmp_size(start: bytes) -> Size:
    if struct.unpack("<I", start[14:18])[0] == 12:  # of OS/2
        width, height = struct.unpack("<HH", start[18:22])
    else:
        width, height = struct.unpack("<ii", start[18:26])
    return abs(height), abs(width)  # a negative height means rows from top to bottom


def _jpeg_2000_size(file: BinaryIO) -> Size:
    """Return the size in the code stream, which the decoder uses, not that in the box before it."""
    position = 0
    while _at(file, position, 4) != JPEG_2000_STREAM:
        length, name = struct.unpack(">I4s", _at(file, position, 8))
        if name == b"jp2c":
            position += 16 if length == 1 else 8
        elif length < 8:
            raise KeyError("no code stream")
        else:
            position += length
    right, bottom, left, top = struct.unpack(">IIII", _at(file, position + 8, 16))
    return bottom - top, right - left


def _avif_orientation(file: BinaryIO) -> int:
    """Ask Pillow, which returns the boxes that rotate and mirror an AVIF as EXIF; the file's own EXIF is ignored."""
    try:
        with Image.open(BytesIO(_at(file, 0, AVIF_BYTES)), formats=("AVIF",)) as image:
            return exif_orientation(BytesIO(image.info.get("exif", b"")))
    except Exception:  # a malformed header makes Pillow raise anything; its decoder will report it
        return 1


def _size_by_pillow(file: BinaryIO, max_bytes: int) -> Size:
    """Ask Pillow, which reads all of an AVIF, and a header of any length of a PPM."""
    try:
        with Image.open(BytesIO(_at(file, 0, max_bytes)), formats=("AVIF", "PPM")) as image:
            return image.size[::-1]
    except Image.DecompressionBombError as error:
        raise ValueError(f"cannot be decoded ({error})") from error
    except Exception as error:  # a malformed header makes Pillow raise anything
        raise ValueError(f"not an image that can be decoded (starts with {_at(file, 0, 12)!r})") from error
