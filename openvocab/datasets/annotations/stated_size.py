"""Compare the size that a file of labels states with that of its image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openvocab.files.file_values import whole_number
from openvocab.images.image_io import BadSample
from openvocab.structures import Size


def check_stated_size(members: Mapping[str, Any], size: Size, path: Path, says: str, question: str) -> None:
    """Check that the size which a file states, if any, is that of its image.

    Args:
        members: height and width, by the names that they have in the file; 0, "" or None if it states none.
        size: (height, width) of the image.
        path: path of the file.
        says, question: beginning and end of the message.

    Raises:
        BadSample: it is another size, or no whole number.
    """
    try:
        stated = [whole_number(value or 0, member) for member, value in members.items()]
    except ValueError as error:
        raise BadSample(path, str(error)) from None
    if any(side and side != actual for side, actual in zip(stated, size)):
        text = "x".join(str(side or "?") for side in stated)
        raise BadSample(path, f"{says} {text} (height x width), its image is {size[0]}x{size[1]}: {question}")
