"""Read one consumer's samples from tar shards in a random order that the seed fixes, resumable at any sample."""

import logging
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from openvocab.datasets.shards.tar_shards import MAX_MEMBER_BYTES, ShardShare, read_shard, share_of
from openvocab.images.image_io import BadSample
from openvocab.seeding import mix_seed

logger = logging.getLogger(__name__)

MAX_BUFFER_BYTES = 2**31
"""A buffer of this size (2 GiB) is emptied even if it has fewer samples than it may hold."""
LOGGED_BAD = 20
"""Bad shards and samples that each consumer logs; further ones are only counted."""
FRUITLESS_PASSES = 30
"""Passes in a row without a usable sample that raise an error. One alone may happen: in the next pass a consumer gets
other shards."""


@dataclass(frozen=True)
class StreamPosition:
    """The position of a consumer after a sample, which goes with that sample to the training loop."""

    consumer: int
    """Index of the loader worker, over all ranks."""
    consumers: int
    """Number of loader workers, over all ranks."""
    pass_number: int
    """Completed passes of the consumer over its shards."""
    shard: int
    """The shard in which the current buffer begins: index in the order of the consumer's shards in this pass ..."""
    skip: int
    """... and the number of its samples before the buffer."""
    taken: int
    """Samples of the buffer that have been returned."""
    bad_count: int
    """Bad shards and samples skipped since training began, counted in every pass."""
    bad_examples: tuple[str, ...]
    """Path and reason of the first ones."""


class ShardStream:
    """The samples of one consumer, undecoded, pass after pass.

    Each pass visits the shards in a new order. A buffer is filled with the next `buffer_size` samples, emptied in
    random order, and filled again. Unlike a buffer that is refilled sample by sample, its content is known from where
    it begins, so that resuming reads again at most one buffer and what precedes it in its first shard.

    Args:
        shards: all shards, the same list for every consumer.
        buffer_size: samples that are shuffled together; 1 keeps shards and samples in order.
        seed: seed of the order, the same for every consumer.
        passes: number of passes over the shards; None for an endless stream.
        consumer, consumers: index of this consumer, and the number of consumers that share the shards.
        fields, max_member_bytes: see `read_shard`.
    """

    def __init__(
        self,
        shards: Sequence[str],
        *,
        buffer_size: int,
        seed: int,
        passes: int | None,
        consumer: int,
        consumers: int,
        fields: Collection[str] | None = None,
        max_member_bytes: int = MAX_MEMBER_BYTES,
    ) -> None:
        self.shards, self.buffer_size, self.seed, self.passes = shards, buffer_size, seed, passes
        self.consumer, self.consumers = consumer, consumers
        self.fields, self.max_member_bytes = fields, max_member_bytes
        self.pass_number = self._shard = self._skip = self._taken = 0
        self.bad_count = 0
        self._bad_examples: tuple[str, ...] = ()
        self._fruitless = 0  # passes in a row without a useful sample
        self._replays = False

    def resume(self, saved: Mapping[int, Mapping[str, Any]]) -> None:
        """Continue from the `saved` positions of all consumers; see `saved_position`.

        If the number of consumers has changed, no position is valid any more, and a new pass begins.
        """
        if not saved:
            return
        if next(iter(saved.values()))["consumers"] != self.consumers:
            self.pass_number = 1 + max(position["pass_number"] for position in saved.values())
            if self.consumer == 0:
                message = f"resumed with {self.consumers} loader workers over all ranks, saved with another number: "
                logger.warning(f"{message}the data starts pass {self.pass_number + 1}")
        elif self.consumer not in saved:  # it had not returned a sample yet
            self.pass_number = min(position["pass_number"] for position in saved.values())
        else:
            position = saved[self.consumer]
            self.pass_number, self._shard = position["pass_number"], position["shard"]
            self._skip, self._taken = position["skip"], position["taken"]
            self.bad_count, self._bad_examples = position["bad_count"], tuple(position["bad_examples"])
            self._replays = True

    @property
    def position(self) -> StreamPosition:
        """The position of the stream after the last sample that it returned."""
        return StreamPosition(
            self.consumer,
            self.consumers,
            self.pass_number,
            self._shard,
            self._skip,
            self._taken,
            self.bad_count,
            self._bad_examples,
        )

    def note_bad(self, error: BadSample) -> None:
        """Count a shard, or the last sample that was returned, as bad; the first ones are logged."""
        self.bad_count += 1
        if len(self._bad_examples) < LOGGED_BAD:
            self._bad_examples += (str(error),)
            logger.warning(f"skipped: {error}")

    def note_useful(self) -> None:
        """Note that the last sample that was returned could be used."""
        self._fruitless = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield samples as `read_shard` does, with `__shard__`, the index of their shard.

        Raises:
            ValueError: `FRUITLESS_PASSES` passes of an endless stream without one usable sample.
        """
        while self.passes is None or self.pass_number < self.passes:
            self._fruitless += 1
            for block in self._blocks():
                yield from self._emptied(block)
            if self.passes is None and self._fruitless == FRUITLESS_PASSES:
                raise ValueError(
                    f"no usable sample in {FRUITLESS_PASSES} passes over the shards of loader worker {self.consumer} "
                    f"of {self.consumers}; skipped: {'; '.join(dict.fromkeys(self._bad_examples)) or 'they are empty'}"
                )
            self.pass_number += 1
            self._shard = self._skip = 0
            self._replays = False

    def _blocks(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the contents of the buffer, from the current position to the end of the pass."""
        shares = self._ordered_shares()
        block: list[dict[str, Any]] = []
        filled = 0
        for number in range(self._shard, len(shares)):
            skip = self._skip if number == self._shard else 0
            for done, sample in enumerate(self._samples(shares[number]), start=1):
                if done <= skip:
                    continue
                block.append(sample)
                filled += sum(len(content) for content in sample.values() if isinstance(content, bytes))
                if len(block) == self.buffer_size or filled >= MAX_BUFFER_BYTES:
                    yield block
                    block, filled = [], 0
                    self._shard, self._skip = number, done
        if block:
            yield block

    def _emptied(self, block: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield a full buffer in random order, releasing each sample as it is returned."""
        order = list(range(len(block)))
        start = (self.consumer, self.pass_number, self._shard, self._skip)
        random.Random(mix_seed(self.seed, "buffer", *start)).shuffle(order)
        self._replays = False
        for index in order[self._taken :]:
            self._taken += 1
            sample, block[index] = block[index], {}
            yield sample
        self._taken = 0

    def _ordered_shares(self) -> list[ShardShare]:
        order = list(range(len(self.shards)))
        if self.buffer_size > 1:
            random.Random(mix_seed(self.seed, "shards", self.pass_number)).shuffle(order)
        shares = share_of(len(order), self.consumer, self.consumers)
        return [share._replace(shard=order[share.shard]) for share in shares]

    def _samples(self, share: ShardShare) -> Iterator[dict[str, Any]]:
        """Yield this consumer's samples of one shard, up to the first damage."""
        try:
            samples = read_shard(self.shards[share.shard], fields=self.fields, max_member_bytes=self.max_member_bytes)
            for number, sample in enumerate(samples):
                if number % share.step == share.first:
                    yield {**sample, "__shard__": share.shard}
        except BadSample as error:
            if share.first == 0 and not self._replays:  # of the consumers that share a shard, one counts it
                self.note_bad(error)


def saved_position(position: StreamPosition) -> dict[str, Any]:
    """Return a position as plain values, for a checkpoint."""
    return {**asdict(position), "bad_examples": list(position.bad_examples)}
