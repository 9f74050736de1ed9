"""Tar archives of samples (the WebDataset format): which ones there are, who reads which, and what is in one."""

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
from typing import Any, BinaryIO, NamedTuple

from openvocab.datasets.shards.decompression import decompressed
from openvocab.files.regular_files import open_regular
from openvocab.images.image_io import BadSample

IMAGE_FIELDS = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff")
TEXT_FIELDS = ("json", "txt")
"""Extensions of the members of a sample: its image, and what is written of it."""

MAX_MEMBER_BYTES = 2**26
"""Of a file in an archive, unless an argument says otherwise: 64 MiB."""
_MAX_HEADER_BYTES = 2**16  # of a long name or a table of attributes; tarfile reads one whole, in quadratic time
_SPARSE_GOES_ON = 504  # byte of a block of a sparse file's map: whether another one follows
_COMMAND = "pipe:"
_ELSEWHERE = re.compile(r"pipe:|[a-z][a-z0-9+.-]*://|file:")
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
"""What a tar archive that is damaged, compressed or not, raises while it is read; OverflowError: sizes beyond 2^63."""


class RefusedMember(NamedTuple):
    """Stands for the content of a file that was not read."""

    reason: str


class ShardShare(NamedTuple):
    """The samples of one shard that belong to one consumer: number `first`, and every `step`-th from there."""

    shard: int
    first: int = 0
    step: int = 1


def require_webdataset() -> None:
    """Check that the library is there.

    Raises:
        ImportError: it is not; the message says how to install it.
    """
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise ImportError("tar shards need the package webdataset: pip install 'openvocab[data]'") from error


def expand_shards(shards: str | Sequence[str], root: str | Path = "", *, allow_commands: bool = False) -> list[str]:
    """Return the shards that patterns name, in order.

    Args:
        shards: one pattern or a list: local paths with `*`, `?`, `[...]` (sorted) and braces (`cc3m-{0000..0331}.tar`),
            or URLs (`https://`, `s3://`, ...) and shell commands (`pipe:aws s3 cp s3://.../{000..100}.tar -`), in which
            braces are expanded too. What a pattern finds on the disk is a file, whatever its name looks like.
        root: put before relative local paths.
        allow_commands: run the shell commands among `shards`.

    Raises:
        FileNotFoundError: a local pattern that matches nothing, or a local file that is not there.
        ValueError: no pattern, a shard named twice, or a command without `allow_commands`.
    """
    require_webdataset()
    from braceexpand import braceexpand  # comes with webdataset

    found: list[str] = []
    for pattern in [shards] if isinstance(shards, str) else shards:
        if pattern.startswith(_COMMAND) and not allow_commands:
            raise ValueError(
                f"shards: {pattern!r} is a shell command; it is run with allow_commands=True only, never from a config "
                "that you do not trust"
            )
        local = not _ELSEWHERE.match(pattern)
        for path in braceexpand(pattern):
            found += _local_shards(path, root) if local else [path]
    if not found:
        raise ValueError("shards: expected at least one path, pattern or URL, got none")
    twice = [path for path, count in Counter(found).items() if count > 1]
    if twice:
        raise ValueError(f"shards: {len(twice)} are named twice, the first is {twice[0]}")
    return found


def share_of(num_shards: int, consumer: int, consumers: int) -> list[ShardShare]:
    """Split shards among `consumers` (loader workers of all ranks): every sample has exactly one of them.

    Whole shards where there are enough; else several consumers read the same shard and take turns at its samples.
    """
    if consumers <= num_shards:
        return [ShardShare(shard) for shard in range(consumer, num_shards, consumers)]
    shard = consumer % num_shards
    return [ShardShare(shard, first=consumer // num_shards, step=len(range(shard, consumers, num_shards)))]


def read_shard(
    url: str, *, fields: Collection[str] | None = None, max_member_bytes: int = MAX_MEMBER_BYTES
) -> Iterator[dict[str, Any]]:
    """Yield the samples of a shard: `{"__key__": str, "jpg": bytes, "txt": bytes, ...}` by extension in lower case.

    Files that share their path up to the first dot of the name are one sample, if they are neighbors in the archive.

    Args:
        url: as `expand_shards` returns it.
        fields: extensions to read; the content of other files is empty. None reads all.
        max_member_bytes: a larger file, or a sparse one, comes as a `RefusedMember` in the place of its bytes.

    Raises:
        BadSample: the shard cannot be opened or read, is cut off, holds a file twice, or its command fails; after the
            samples before that place.
    """
    from webdataset.handlers import reraise_exception
    from webdataset.tariterators import group_by_keys

    try:
        with _opened(url) as stream:
            yield from group_by_keys(_members(stream, url, fields, max_member_bytes), handler=reraise_exception)
    except UNREADABLE_ARCHIVE as error:
        raise BadSample(url, f"the shard cannot be read ({type(error).__name__}: {_first_words(error)})") from error


def is_whole_shard(path: Path) -> bool:
    """Tell whether an archive that Python wrote is there to its last byte, by its headers; files in it are not read."""
    try:
        with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:", tarinfo=_StrictTarInfo) as archive:
            while archive.next() is not None:
                archive.members = []
            return file.seek(0, io.SEEK_END) % tarfile.RECORDSIZE == 0
    except UNREADABLE_ARCHIVE:
        return False


def _local_shards(path: str, root: str | Path) -> list[str]:
    whole = Path(root) / path
    if not glob.has_magic(path):
        if not whole.is_file():
            raise FileNotFoundError(f"shards: no file {whole}; check the pattern and the width of numbers in braces")
        return [_as_file(whole)]
    found = sorted(glob.glob(path, root_dir=root or None))
    if not found:
        raise FileNotFoundError(f"shards: no file matches {whole}")
    return [_as_file(Path(root) / name) for name in found]


def _as_file(path: Path) -> str:
    """Return a path that is not taken for a URL or a command, even if the file is called `pipe:...`."""
    return f"./{path}" if _ELSEWHERE.match(str(path)) else str(path)


@contextmanager
def _opened(url: str) -> Iterator[BinaryIO]:
    """Open a path, URL or command; leaving early (an error, or nobody wants the rest) hides its exit status."""
    from webdataset.gopen import gopen

    stream = gopen(url) if _ELSEWHERE.match(url) else open_regular(url)
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
    """Yield the files of an archive as webdataset's grouping takes them, an empty dict at the end.

    Its own reader takes a cut archive for a short one; this one reads on to the end of the stream and complains.
    """
    # ignore_zeros: archives that were concatenated have end marks inside
    try:
        options = dict(mode="r|", tarinfo=_StrictTarInfo, ignore_zeros=True)
        with tarfile.open(fileobj=decompressed(stream), **options) as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # it would keep them all
                if member.isreg() and not _META.match(member.name):
                    wanted = fields is None or _field(member.name) in fields
                    content = _content(archive, member, max_member_bytes) if wanted else b""
                    yield {"fname": member.name, "data": content, "__url__": url}
                _skip_to(archive.fileobj, archive.offset)
    except UNREADABLE_ARCHIVE:
        yield {}  # the files before the cut may well be a whole sample
        raise
    yield {}


def _skip_to(stream: Any, offset: int) -> None:
    """Read a stream up to `offset`; tarfile's own way there goes on after the end, for as many bytes as were claimed.

    Raises:
        tarfile.ReadError: the stream ends before.
    """
    while (rest := offset - stream.tell()) > 0:
        if not stream.read(min(rest, tarfile.RECORDSIZE)):
            raise tarfile.ReadError("cut off: it ends within a file")


def _field(name: str) -> str:
    """Return what stands behind the first dot of a file's name."""
    return name.rpartition("/")[2].partition(".")[2].lower()


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, max_bytes: int) -> bytes | RefusedMember:
    if member.issparse():
        return RefusedMember("a sparse file: a few bytes could claim any size")
    if member.size > max_bytes:
        return RefusedMember(f"{member.size} bytes, more than max_member_bytes={max_bytes}")
    return archive.extractfile(member).read()


class _StrictTarInfo(tarfile.TarInfo):
    """A header that refuses to be the last one without an end mark, or to be anything but a header."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        """Parse a header.

        Raises:
            tarfile.ReadError: it announces a name or attributes that would fill the memory.
        """
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENDED_TYPES and not 0 <= header.size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header

    def _proc_gnusparse_10(self, member: tarfile.TarInfo, *_: object) -> None:
        """Leave the map of a sparse file unread, which has no limit either: such files are refused anyway."""
        member.sparse = []

    def _proc_sparse(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """Read past the map of a sparse file of the older kind, keeping nothing of it.

        Raises:
            tarfile.ReadError: cut off, where Python's would raise IndexError.
        """
        _, goes_on, whole_size = self._sparse_structs
        while goes_on:
            block = archive.fileobj.read(tarfile.BLOCKSIZE)
            if len(block) < tarfile.BLOCKSIZE:
                raise tarfile.ReadError("cut off: it ends within the map of a sparse file")
            goes_on = bool(block[_SPARSE_GOES_ON])
        self.sparse = []
        self.offset_data = archive.fileobj.tell()
        archive.offset = self.offset_data + self._block(self.size)
        self.size = whole_size
        return self

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """Read the next header.

        Raises:
            tarfile.ReadError: cut off or damaged, where Python's would end the archive in silence.
        """
        try:
            header = super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            archive.at_end_mark = True
            raise
        except tarfile.EmptyHeaderError as error:
            if getattr(archive, "at_end_mark", False):
                raise
            raise tarfile.ReadError("cut off: it ends without an end mark") from error
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"cut off or damaged: {error}") from error
        if header.size < 0:  # the way past it would lead back to this header, again and again
            raise tarfile.ReadError("damaged: a file of negative size")
        archive.at_end_mark = False
        return header


def _first_words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
