"""Find the images that match a text, or the texts that match an image, among any number of them."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from openvocab.argument_checks import check_choice
from openvocab.images.image_io import BadSample
from openvocab.predictor import Predictor, as_list
from openvocab.predictor.batching import Prepared
from openvocab.progress import Progress
from openvocab.text.templates import fill_template, resolve_templates
from openvocab.vocabulary.vocabulary import has_visible_character

Way = Literal["text_to_image", "image_to_text"]
TEXTS_AT_ONCE = 8192
"""Texts that are embedded at once, and compared at once with a batch of images."""


class Match(NamedTuple):
    """One result of a query."""

    item: str
    """The path of an image ("image 3" for one without a path), or a text."""
    score: float
    """Cosine of image and text, -1..1."""


class Ranking(NamedTuple):
    """The results of one query."""

    query: str
    """A text, or the path of an image."""
    matches: list[Match]
    """Best first; equal scores in the order of the input."""


def retrieve(
    predictor: Predictor,
    texts: str | Sequence[str],
    images: Any,
    way: Way = "text_to_image",
    *,
    top: int = 10,
    template: str = "{}",
    batch_size: int = 32,
    bad_images: Literal["raise", "skip"] = "raise",
    progress: bool = True,
) -> list[Ranking]:
    """Rank images for every text, or texts for every image, by the cosine of their embeddings.

    Images are read and embedded batch by batch, and only the best matches of each query are kept. However many images
    there are, memory holds the embeddings of the texts (4 * D bytes each), the paths and a few batches of images.

    Args:
        predictor: a predictor whose model compares whole images with texts, as CLIP does.
        texts: one text or several.
        images: a folder, which is searched recursively in alphabetical order; or an image, a list or an iterator of
            images, of any type that the predictor takes.
        way: `text_to_image` finds images for each text, `image_to_text` texts for each image.
        top: number of matches per query; fewer if there are fewer items.
        template: sentence that every text is put into; the CLIP paper retrieves by "a photo of {}".
        batch_size: images that are embedded at once.
        bad_images: what to do about an image that cannot be read: `raise` stops with its path, `skip` skips it with a
            warning.
        progress: whether to show a bar on stderr, if the number of images is known.

    Returns:
        One `Ranking` per text or image, in their order; none for an image that was skipped.

    Raises:
        FileNotFoundError: no such file, or a folder without images.
        TypeError, ValueError: an argument cannot be used, an image cannot be read, or the model has no embeddings of
            whole images or of free texts.
    """
    check_choice("way", way, ("text_to_image", "image_to_text"))
    check_choice("bad_images", bad_images, ("raise", "skip"))
    if top < 1:
        raise ValueError(f"top: expected at least 1, got {top}")
    texts = [texts] if isinstance(texts, str) else list(texts)
    text_embed = _embedded_texts(predictor, texts, template)
    embedded = _embedded_images(predictor, images, batch_size, bad_images == "skip", progress)
    if way == "text_to_image":
        return _images_for_texts(texts, text_embed, embedded, top)
    return _texts_for_images(texts, text_embed, embedded, top)


class BestColumns:
    """The columns with the highest scores, for each row of a matrix that is seen part by part.

    Args:
        num_rows: Q, the number of rows.
        top: number of columns kept per row.
    """

    def __init__(self, num_rows: int, top: int) -> None:
        self.top = top
        self.scores = torch.empty(num_rows, 0)
        self.columns = torch.empty(num_rows, 0, dtype=torch.int64)

    def add(self, scores: Tensor, columns: Tensor) -> None:
        """Add some columns, in any order.

        Args:
            scores: (Q, n) float32.
            columns: (n,) int64, the indices of these columns in the whole matrix.
        """
        # in the order of the columns first, so that the stable sort below breaks ties by the lower index
        columns, order = torch.cat([self.columns, columns.expand(len(scores), -1)], dim=1).sort(dim=1)
        scores = torch.cat([self.scores, scores], dim=1).gather(1, order)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        self.scores, self.columns = scores[:, : self.top], columns.gather(1, order[:, : self.top])

    def ranked(self) -> list[list[tuple[int, float]]]:
        """Return the index and the score of the best columns of each row, best first."""
        return [list(zip(*row)) for row in zip(self.columns.tolist(), self.scores.tolist())]


def _images_for_texts(
    texts: Sequence[str], text_embed: Tensor, embedded: Iterator[tuple[list[int], list[str], Tensor]], top: int
) -> list[Ranking]:
    best = BestColumns(len(texts), top)
    names: dict[int, str] = {}
    for numbers, batch_names, embed in embedded:
        best.add(text_embed @ embed.T, torch.tensor(numbers))
        names.update(zip(numbers, batch_names))
    return [
        Ranking(text, [Match(names[number], score) for number, score in row]) for text, row in zip(texts, best.ranked())
    ]


def _texts_for_images(
    texts: Sequence[str], text_embed: Tensor, embedded: Iterator[tuple[list[int], list[str], Tensor]], top: int
) -> list[Ranking]:
    rankings: dict[int, Ranking] = {}
    for numbers, names, embed in embedded:
        best = BestColumns(len(numbers), top)
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            block = text_embed[start : start + TEXTS_AT_ONCE]
            best.add(embed @ block.T, torch.arange(start, start + len(block)))
        for number, name, row in zip(numbers, names, best.ranked()):
            rankings[number] = Ranking(name, [Match(texts[column], score) for column, score in row])
    return [rankings[number] for number in sorted(rankings)]


def _embedded_texts(predictor: Predictor, texts: Sequence[str], template: str) -> Tensor:
    """Return unit-norm embeddings (Q, D) of the texts, each put into the template."""
    if not texts:
        raise ValueError("texts: expected at least one, got none")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not has_visible_character(text):
            raise ValueError(f"text {index}: expected a non-empty string, got {text!r}")
    (sentence,) = resolve_templates([template])
    prompts = [fill_template(sentence, text) for text in texts]
    blocks = (prompts[start : start + TEXTS_AT_ONCE] for start in range(0, len(prompts), TEXTS_AT_ONCE))
    return torch.cat([predictor.encode_text(block, normalize=True) for block in blocks])


def _batches(
    predictor: Predictor, images: Iterable[Any], batch_size: int, skip_bad: bool
) -> Iterator[tuple[list[int], list[Prepared]]]:
    """Yield the batches of a predictor; an error about an image states the argument that skips it."""
    try:
        yield from predictor.batches(images, None, batch_size, skip_bad)
    except BadSample as error:
        raise BadSample(error.path, f'{error.reason}; bad_images="skip" skips such images') from error


def _embedded_images(
    predictor: Predictor, images: Any, batch_size: int, skip_bad: bool, show: bool
) -> Iterator[tuple[list[int], list[str], Tensor]]:
    """Yield the indices, the names and the unit-norm embeddings (n, D) of each batch of images."""
    listed = as_list(images)
    total = len(listed) if isinstance(listed, Sized) else None
    bar = Progress() if show and total else None
    done = 0
    for numbers, items in _batches(predictor, listed, batch_size, skip_bad):
        embed = torch.nn.functional.normalize(predictor.embed_prepared(items), dim=-1)
        yield numbers, [sample.sample_id for _, sample in items], embed
        done += len(numbers)
        if bar is not None and total is not None:
            bar(done, total)
    if bar is not None and total is not None and done < total:  # some were skipped
        bar(total, total)
