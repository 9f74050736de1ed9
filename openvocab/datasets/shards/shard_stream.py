"""One consumer's way through tar shards: in a random order that the seed fixes, and resumable at any sample."""

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
"""A buffer that holds so much (2 GiB) is emptied before it has its number of samples."""
LOGGED_BAD = 20  # of each consumer; the rest is only counted
FRUITLESS_PASSES = 30  # in a row; a consumer whose few shards are broken gets others in the next pass


@dataclass(frozen=True)
class StreamPosition:
    """Where a consumer stands, after a sample; it travels with that sample to the training loop."""

    consumer: int
    """Loader worker, numbered over all ranks."""
    consumers: int
    pass_number: int
    """Times that the consumer has been through its shards."""
    shard: int
    """Where the present buffer begins: number of the shard in this pass's order of the consumer's own ones ..."""
    skip: int
    """... and samples of that shard which lie before it."""
    taken: int
    """Samples of the buffer that are done with."""
    bad_count: int
    """Broken shards and samples skipped since training began, each time they were met."""
    bad_examples: tuple[str, ...]
    """Path and reason of the first of them."""


class ShardStream:
    """The samples of one consumer, undecoded, pass after pass.

    Each pass visits the shards in a new order. A buffer is filled with the next `buffer_size` samples, emptied in
    random order, and filled again: unlike a buffer that is topped up sample by sample, what it holds is known from
    where it began, so that resuming reads again no more than one buffer and what lies before it in its first shard.

    Args:
        shards: all of them, the same list for every consumer.
        buffer_size: samples that are shuffled at a time; 1 keeps the shards and the samples in order.
        seed: of the order, the same for every consumer.
        passes: to go through the shards; None goes on for ever.
        consumer, consumers: number of this one, and how many share the shards.
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
        """Continue where the `saved` positions of all consumers say; see `saved_position`.

        With another number of consumers than before, nobody can continue in the middle: a new pass begins.
        """
        if not saved:
            return
        if next(iter(saved.values()))["consumers"] != self.consumers:
            self.pass_number = 1 + max(position["pass_number"] for position in saved.values())
            if self.consumer == 0:
                message = f"resumed with {self.consumers} loader workers over all ranks, saved with another number: "
                logger.warning(f"{message}the data starts pass {self.pass_number + 1}")
        elif self.consumer not in saved:  # it had not delivered yet
            self.pass_number = min(position["pass_number"] for position in saved.values())
        else:
            position = saved[self.consumer]
            self.pass_number, self._shard = position["pass_number"], position["shard"]
            self._skip, self._taken = position["skip"], position["taken"]
            self.bad_count, self._bad_examples = position["bad_count"], tuple(position["bad_examples"])
            self._replays = True

    @property
    def position(self) -> StreamPosition:
        """Where the stream stands, after the sample that it gave last."""
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
        """Count a shard, or the sample that was given last, as bad; the first ones are logged."""
        self.bad_count += 1
        if len(self._bad_examples) < LOGGED_BAD:
            self._bad_examples += (str(error),)
            logger.warning(f"skipped: {error}")

    def note_useful(self) -> None:
        """Say that the sample that was given last could be used."""
        self._fruitless = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield samples as `read_shard` does, with `__shard__`, the number of their shard.

        Raises:
            ValueError: an endless stream went through its shards again and again without one useful sample.
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
        """Yield what fills the buffer, from the present place to the end of the pass."""
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
        """Yield a full buffer in random order, and forget each sample with it."""
        order = list(range(len(block)))
        place = (self.consumer, self.pass_number, self._shard, self._skip)
        random.Random(mix_seed(self.seed, "buffer", *place)).shuffle(order)
        self._replays = False
        for index in order[self._taken :]:
            self._taken += 1
            sample, block[index] = block[index], None
            yield sample
        self._taken = 0

    def _ordered_shares(self) -> list[ShardShare]:
        order = list(range(len(self.shards)))
        if self.buffer_size > 1:
            random.Random(mix_seed(self.seed, "shards", self.pass_number)).shuffle(order)
        shares = share_of(len(order), self.consumer, self.consumers)
        return [share._replace(shard=order[share.shard]) for share in shares]

    def _samples(self, share: ShardShare) -> Iterator[dict[str, Any]]:
        """Yield this consumer's samples of one shard, up to where it is broken."""
        try:
            samples = read_shard(self.shards[share.shard], fields=self.fields, max_member_bytes=self.max_member_bytes)
            for number, sample in enumerate(samples):
                if number % share.step == share.first:
                    yield {**sample, "__shard__": share.shard}
        except BadSample as error:
            if share.first == 0 and not self._replays:  # one of its readers counts it, once
                self.note_bad(error)


def saved_position(position: StreamPosition) -> dict[str, Any]:
    """Return a position as plain values, for a checkpoint."""
    return {**asdict(position), "bad_examples": list(position.bad_examples)}
