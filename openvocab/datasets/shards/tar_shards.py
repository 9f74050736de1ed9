"""Tar archives of samples (the WebDataset format): list them, split them among consumers, and read one.

Python's `tarfile` mistakes a truncated archive for a short one, and keeps the headers of all members. The subclasses
here report the damage and keep nothing, which exact resuming and streams of terabytes need.
"""

import glob
import io
import lzma
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from openvocab.datasets.shards.decompression import decompressed
from openvocab.files.regular_files import open_regular
from openvocab.images.image_io import BadSample

IMAGE_FIELDS = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff")
TEXT_FIELDS = ("json", "txt")
"""Extensions of the members of a sample: its image, and its captions and metadata."""

MAX_MEMBER_BYTES = 2**26
"""Default maximum size of a file in an archive: 64 MiB."""
_MAX_HEADER_BYTES = 2**16  # of a long name or a table of attributes, which tarfile parses in quadratic time
_SPARSE_HAS_NEXT = 504  # byte in a block of a sparse file's map: whether another block follows
# private to tarfile, whose types leave them out: zeros where a header should be, and the end of the stream
_EOFHeaderError, _EmptyHeaderError = (vars(tarfile)[name] for name in ("EOFHeaderError", "EmptyHeaderError"))
_COMMAND = "pipe:"
_NOT_LOCAL = re.compile(r"pipe:|[a-z][a-z0-9+.-]*://|file:")
_META = re.compile(r"__[^/]*__($|/)")  # files that the format reserves
_EXTENDED_TYPES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
UNREADABLE_ARCHIVE = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    RecursionError,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)
"""What reading a damaged tar archive, compressed or not, can raise; OverflowError: sizes beyond 2^63."""


class RefusedMember(NamedTuple):
    """Replaces the content of a file that was not read."""

    reason: str


class ShardShare(NamedTuple):
    """The samples of one shard that belong to one consumer: index `first`, and every `step`-th after it."""

    shard: int
    first: int = 0
    step: int = 1


def require_webdataset() -> None:
    """Check that the package webdataset is installed.

    Raises:
        ImportError: it is not; the message states how to install it.
    """
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise ImportError("tar shards need the package webdataset: pip install 'openvocab[data]'") from error


def expand_shards(shards: str | Sequence[str], root: str | Path = "", *, allow_commands: bool = False) -> list[str]:
    """Return the shards that match patterns, in order.

    Args:
        shards: one pattern or a list: local paths with `*`, `?`, `[...]` (sorted) and braces (`cc3m-{0000..0331}.tar`),
            or URLs (`https://`, `s3://`, ...) and shell commands (`pipe:aws s3 cp s3://.../{000..100}.tar -`), in which
            braces are expanded too. A match on the disk is a file, even if its name looks like a URL or a command.
        root: folder of relative local paths.
        allow_commands: accept shell commands among `shards`.

    Raises:
        FileNotFoundError: a local pattern that matches nothing, or a missing local file.
        ValueError: no pattern, a shard that is given twice, or a command without `allow_commands`.
    """
    require_webdataset()
    from braceexpand import braceexpand  # comes with webdataset

    paths: list[str] = []
    for pattern in [shards] if isinstance(shards, str) else shards:
        if pattern.startswith(_COMMAND) and not allow_commands:
            raise ValueError(
                f"shards: {pattern!r} is a shell command; it is run with allow_commands=True only; set that "
                "only in a config that you trust"
            )
        is_local = not _NOT_LOCAL.match(pattern)
        for path in braceexpand(pattern):
            paths += _local_shards(path, root) if is_local else [path]
    if not paths:
        raise ValueError("shards: expected at least one path, pattern or URL, got none")
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise ValueError(f"shards: {len(twice)} are named twice; the first is {twice[0]}")
    return paths


def share_of(num_shards: int, consumer: int, consumers: int) -> list[ShardShare]:
    """Return one consumer's part of the shards; every sample belongs to exactly one of the `consumers`.

    Consumers are the loader workers of all ranks. They get complete shards if there are enough; otherwise several read
    the same shard and take turns at its samples.
    """
    if consumers <= num_shards:
        return [ShardShare(shard) for shard in range(consumer, num_shards, consumers)]
    shard = consumer % num_shards
    return [ShardShare(shard, first=consumer // num_shards, step=len(range(shard, consumers, num_shards)))]


def read_shard(
    url: str, *, fields: Collection[str] | None = None, max_member_bytes: int = MAX_MEMBER_BYTES
) -> Iterator[dict[str, Any]]:
    """Yield the samples of a shard: `{"__key__": str, "jpg": bytes, "txt": bytes, ...}` by extension in lower case.

    Adjacent files whose paths are equal up to the first dot of the name are one sample.

    Args:
        url: as `expand_shards` returns it.
        fields: extensions to read; the content of other files is empty. None reads all.
        max_member_bytes: a larger file, or a sparse one, is a `RefusedMember` instead of its bytes.

    Raises:
        BadSample: the shard cannot be opened or read, is truncated, holds a file twice, or its command fails; raised
            after the samples before the damage.
    """
    from webdataset.handlers import reraise_exception
    from webdataset.tariterators import group_by_keys

    try:
        with _opened(url) as stream:
            yield from group_by_keys(_members(stream, url, fields, max_member_bytes), handler=reraise_exception)
    except UNREADABLE_ARCHIVE as error:
        raise BadSample(url, f"the shard cannot be read ({type(error).__name__}: {_first_words(error)})") from error


def is_whole_shard(path: Path) -> bool:
    """Return whether an archive that Python wrote is complete, by its headers; the files in it are not read."""
    try:
        with open_regular(path) as file, _StrictArchive.open(fileobj=file, mode="r:") as archive:
            while archive.next_member() is not None:
                pass
            return file.seek(0, io.SEEK_END) % tarfile.RECORDSIZE == 0
    except UNREADABLE_ARCHIVE:
        return False


def _local_shards(path: str, root: str | Path) -> list[str]:
    pattern = Path(root) / path
    if not glob.has_magic(path):
        if not pattern.is_file():
            raise FileNotFoundError(f"shards: no file {pattern}; check the pattern and the width of numbers in braces")
        return [_as_file(pattern)]
    names = sorted(glob.glob(path, root_dir=root or None))
    if not names:
        raise FileNotFoundError(f"shards: no file matches {pattern}")
    return [_as_file(Path(root) / name) for name in names]


def _as_file(path: Path) -> str:
    """Return a path that is not read as a URL or a command, even if the file is called `pipe:...`."""
    return f"./{path}" if _NOT_LOCAL.match(str(path)) else str(path)


@contextmanager
def _opened(url: str) -> Iterator[BinaryIO]:
    """Open a path, URL or command; the exit status of a command is ignored if its output is not read to the end."""
    from webdataset.gopen import gopen

    stream = gopen(url) if _NOT_LOCAL.match(url) else open_regular(url)
    try:
        yield stream
    except BaseException:
        with suppress(OSError):
            stream.close()
        raise
    stream.close()


def _members(
    stream: BinaryIO, url: str, fields: Collection[str] | None, max_member_bytes: int
) -> Iterator[dict[str, Any]]:
    """Yield the files of an archive in the form that webdataset's grouping expects, and an empty dict at the end.

    webdataset's own reader mistakes a truncated archive for a short one. This one reads to the end of the stream, and
    raises an error.
    """
    try:
        # ignore_zeros: archives that were concatenated have end marks inside
        with _StrictArchive.open(fileobj=decompressed(stream), mode="r|", ignore_zeros=True) as archive:
            while (member := archive.next_member()) is not None:
                if member.isreg() and not _META.match(member.name):
                    is_read = fields is None or _field(member.name) in fields
                    content = _content(archive, member, max_member_bytes) if is_read else b""
                    yield {"fname": member.name, "data": content, "__url__": url}
                _skip_to(archive.fileobj, archive.offset)
    except UNREADABLE_ARCHIVE:
        yield {}  # the files before the damage may be a complete sample
        raise
    yield {}


def _skip_to(stream: Any, offset: int) -> None:
    """Read a stream up to `offset`; tarfile itself would not notice that a stream ends before.

    Raises:
        tarfile.ReadError: the stream ends before.
    """
    while (remaining := offset - stream.tell()) > 0:
        if not stream.read(min(remaining, tarfile.RECORDSIZE)):
            raise tarfile.ReadError("cut off: it ends within a file")


def _field(name: str) -> str:
    """Return what follows the first dot of a file's name, in lower case."""
    return name.rpartition("/")[2].partition(".")[2].lower()


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, max_bytes: int) -> bytes | RefusedMember:
    if member.issparse():
        return RefusedMember("a sparse file: a few bytes could claim any size")
    if member.size > max_bytes:
        return RefusedMember(f"{member.size} bytes, more than max_member_bytes={max_bytes}")
    file = archive.extractfile(member)
    return b"" if file is None else file.read()  # None is for members that are not files


class _StrictTarInfo(tarfile.TarInfo):
    """A header that raises if it is damaged, or if the archive ends after it without an end mark."""

    if TYPE_CHECKING:  # private members of tarfile, whose stubs lack them or state another type
        sparse: Any
        _sparse_structs: tuple[list[tuple[int, int]], bool, int]

        def _block(self, count: int) -> int: ...

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_StrictTarInfo":
        """Parse a header.

        Raises:
            tarfile.ReadError: its name or attributes would fill the memory.
        """
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENDED_TYPES and not 0 <= header.size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header

    def _proc_gnusparse_10(self, member: "_StrictTarInfo", *_: object) -> None:
        """Skip the map of a sparse file, whose size has no limit: such files are rejected anyway."""
        member.sparse = []

    def _proc_sparse(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """Read past the map of a sparse file in the older GNU format without keeping it.

        Raises:
            tarfile.ReadError: truncated; tarfile itself would raise IndexError.
        """
        _, has_next, full_size = self._sparse_structs
        stream: Any = archive.fileobj
        while has_next:
            block = stream.read(tarfile.BLOCKSIZE)
            if len(block) < tarfile.BLOCKSIZE:
                raise tarfile.ReadError("cut off: it ends within the map of a sparse file")
            has_next = bool(block[_SPARSE_HAS_NEXT])
        self.sparse = []
        self.offset_data = stream.tell()
        archive.offset = self.offset_data + self._block(self.size)
        self.size = full_size
        return self

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_StrictTarInfo":
        """Read the next header.

        Raises:
            tarfile.ReadError: truncated or damaged; tarfile itself would end the archive silently.
        """
        try:
            header = super().fromtarfile(archive)
        except _EOFHeaderError:
            _note_end_mark(archive, True)
            raise
        except _EmptyHeaderError as error:
            if getattr(archive, "at_end_mark", False):
                raise
            raise tarfile.ReadError("cut off: it ends without an end mark") from error
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"cut off or damaged: {error}") from error
        if header.size < 0:  # skipping it would lead back to this header, forever
            raise tarfile.ReadError("damaged: a file of negative size")
        _note_end_mark(archive, False)
        return header


class _StrictArchive(tarfile.TarFile):
    """An archive whose headers are `_StrictTarInfo`, and which keeps none of them."""

    tarinfo = _StrictTarInfo
    members: list[tarfile.TarInfo]
    at_end_mark = False
    """Whether the last block was an end mark."""

    def next_member(self) -> tarfile.TarInfo | None:
        """Return the next header, None at the end."""
        member = self.next()
        self.members = []
        return member


def _note_end_mark(archive: tarfile.TarFile, at_end_mark: bool) -> None:
    if isinstance(archive, _StrictArchive):
        archive.at_end_mark = at_end_mark


def _first_words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
