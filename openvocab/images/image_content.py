"""Images whose bytes can be had once: open files, and addresses, which need not answer the same twice."""

from typing import Any

from openvocab.images.addresses import fetch, is_address


class ImageContent:
    """The bytes of an open file or of an address, read when they are first needed, and kept.

    It stands in for an open file, `read()` and `name`, but gives the same bytes every time, also after the file is
    closed.

    Args:
        image: an open binary file, or an address.
    """

    def __init__(self, image: Any) -> None:
        self._image, self._content = image, b""
        self.address = str(image) if is_address(image) else ""
        self.name = self.address or getattr(image, "name", None)

    def read(self) -> bytes:
        """Return all bytes.

        Raises:
            BadSample: an address cannot be fetched.
        """
        if self._image is not None:
            self._content = fetch(self.address) if self.address else self._image.read()
            self._image = None
        return self._content


def repeatable(image: Any) -> Any:
    """Return an image that can be read any number of times: the `ImageContent` of a file or address, others as is."""
    is_open_file = hasattr(image, "read") and not isinstance(image, ImageContent)
    return ImageContent(image) if is_open_file or is_address(image) else image
