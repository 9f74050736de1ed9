"""Tar archives of samples (the WebDataset format): which ones there are, who reads which, and what is in one."""

import glob
import lzma
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from openvocab.datasets.image_io import BadSample

_ELSEWHERE = re.compile(r"pipe:|[a-z][a-z0-9+.-]*://|file:")
_META = re.compile(r"__[^/]*__($|/)")  # files that the format reserves
_UNREADABLE = (OSError, EOFError, ValueError, tarfile.TarError, zlib.error, lzma.LZMAError)


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


def expand_shards(shards: str | Sequence[str], root: str | Path = "") -> list[str]:
    """Return the shards that patterns name, in order.

    Args:
        shards: one pattern or a list: local paths with `*`, `?`, `[...]` (sorted) and braces (`cc3m-{0000..0331}.tar`),
            or URLs (`https://`, `s3://`, ...) and shell commands (`pipe:aws s3 cp s3://.../{000..100}.tar -`), in which
            braces are expanded too. Commands are run: take them from configs that you trust.
        root: put before relative local paths.

    Raises:
        FileNotFoundError: a local pattern that matches nothing, or a local file that is not there.
        ValueError: no pattern, or a shard named twice.
    """
    require_webdataset()
    from braceexpand import braceexpand  # comes with webdataset

    found: list[str] = []
    for pattern in [shards] if isinstance(shards, str) else shards:
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


def read_shard(url: str) -> Iterator[dict[str, Any]]:
    """Yield the samples of a shard: `{"__key__": str, "jpg": bytes, "txt": bytes, ...}` by extension in lower case.

    Files that share their path up to the first dot of the name are one sample, if they are neighbours in the archive.

    Raises:
        BadSample: the shard cannot be opened or read, is cut off, holds a file twice, or its command fails; after the
            samples before that place.
    """
    from webdataset.handlers import reraise_exception
    from webdataset.tariterators import group_by_keys

    try:
        with _opened(url) as stream:
            yield from group_by_keys(_members(stream, url), handler=reraise_exception)
    except _UNREADABLE as error:
        raise BadSample(url, f"the shard cannot be read ({type(error).__name__}: {_first_words(error)})") from error


def _local_shards(path: str, root: str | Path) -> list[str]:
    whole = Path(root) / path
    if not glob.has_magic(path):
        if not whole.is_file():
            raise FileNotFoundError(f"shards: no file {whole}; check the pattern and the width of numbers in braces")
        return [str(whole)]
    found = sorted(glob.glob(path, root_dir=root or None))
    if not found:
        raise FileNotFoundError(f"shards: no file matches {whole}")
    return [str(Path(root) / name) for name in found]


@contextmanager
def _opened(url: str) -> Iterator[BinaryIO]:
    """Open a path, URL or command; leaving early (an error, or nobody wants the rest) hides its exit status."""
    from webdataset.gopen import gopen

    stream = gopen(url)
    try:
        yield stream
    except BaseException:
        with suppress(OSError):
            stream.close()
        raise
    stream.close()


def _members(stream: BinaryIO, url: str) -> Iterator[dict[str, Any]]:
    """Yield the files of an archive as webdataset's grouping takes them, an empty dict at the end.

    Its own reader takes a cut archive for a short one; this one reads on to the end of the stream and complains.
    """
    # ignore_zeros: archives that were concatenated have end marks inside
    try:
        with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_StrictTarInfo, ignore_zeros=True) as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # it would keep them all
                if member.isreg() and not _META.match(member.name):
                    yield {"fname": member.name, "data": archive.extractfile(member).read(), "__url__": url}
    except tarfile.ReadError:
        yield {}  # the files before the cut may well be a whole sample
        raise
    yield {}


class _StrictTarInfo(tarfile.TarInfo):
    """A header that refuses to be the last one without an end mark, or to be anything but a header."""

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
        archive.at_end_mark = False
        return header


def _first_words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
