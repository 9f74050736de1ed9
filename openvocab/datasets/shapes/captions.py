"""Write varied English captions that are true for a Shapes scene, and mark which words refer to which objects."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openvocab.datasets.shapes.classes import CLASS_NAMES
from openvocab.datasets.shapes.random_stream import RandomStream
from openvocab.datasets.shapes.scene import IMAGE_SIZE, Scene, ShapeObject

LARGE, SMALL = 25.0, 14.0
"""Minimum diameter in pixels of an object that may be called large, and maximum of one that may be called small."""
NUMBERS = ("no", "one", "two", "three", "four", "five")
SIZE_WORDS = {"large": ("large", "big", "huge"), "small": ("small", "little", "tiny")}
RELATIONS = {
    "left": ("to the left of", "left of", "on the left side of"),
    "right": ("to the right of", "right of", "on the right side of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "lower than"),
    "near": ("next to", "beside", "near", "close to"),
    "front": ("in front of", "partly covering", "overlapping"),
    "behind": ("behind", "partly hidden by"),
}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above", "front": "behind", "behind": "front"}
LIST_FRAMES = (
    "{}",
    "{}",
    "{}",
    "a picture of {}",
    "an image with {}",
    "a photo of {}",
    "a scene with {}",
    "there is {}",
    "here we see {}",
    "{} against a coloured background",
    "{} in one picture",
    "this image shows {}",
)
LOCATIONS = {
    (0, 0): ("in the upper left", "in the top left corner"),
    (0, 1): ("at the top", "in the upper part"),
    (0, 2): ("in the upper right", "in the top right corner"),
    (1, 0): ("on the left", "on the left side", "at the left"),
    (1, 1): ("in the middle", "in the center"),
    (1, 2): ("on the right", "on the right side", "at the right"),
    (2, 0): ("in the lower left", "in the bottom left corner"),
    (2, 1): ("at the bottom", "in the lower part"),
    (2, 2): ("in the lower right", "in the bottom right corner"),
}


_MARK, _TEXT, _END = "\x02", "\x03", "\x04"
_MARKED = re.compile(f"{_MARK}([0-9,]+){_TEXT}([^{_END}]*){_END}")


@dataclass(frozen=True)
class Phrase:
    """Words of a caption that refer to objects of the scene."""

    ranges: tuple[tuple[int, int], ...]
    """First character and the one after the last; two ranges for "the star is red", whose "is" refers to nothing."""
    objects: tuple[int, ...]
    """Indices of the objects that the writer means, ascending. Others of the scene may fit the words, too."""


@dataclass(frozen=True)
class Caption:
    """A true text about a scene."""

    text: str
    phrases: tuple[Phrase, ...]
    """In order of appearance."""


def write_captions(scene: Scene, stream: RandomStream, count: int = 5) -> list[Caption]:
    """Return captions of a scene, distinct from each other; fewer than `count` if the scene allows no more.

    The first names every object; the others may name some of them.

    Args:
        scene: a scene with at least one object.
        stream: source of every choice.
        count: number of captions.
    """
    captions = [_unmarked(_full_list(scene, stream))]
    writers: Sequence[Callable[[Scene, RandomStream], str]] = (
        _names_only, _located, _related, _located_list, _few, _predicate,
    )  # fmt: skip
    order = stream.shuffled(writers)
    for turn in range(6 * count):
        if len(captions) == count:
            break
        caption = _unmarked(order[turn % len(order)](scene, stream))
        if all(caption.text != other.text for other in captions):
            captions.append(caption)
    return captions


def _marked(text: str, objects: Sequence[int]) -> str:
    """Mark words that refer to objects; the writers below compose such texts, `_unmarked` takes the marks out."""
    return f"{_MARK}{','.join(map(str, objects))}{_TEXT}{text}{_END}"


def _unmarked(text: str) -> Caption:
    """Return the caption of a marked text; successive marks of the same objects are the ranges of one phrase."""
    pieces: list[str] = []
    length = done = 0
    phrases: list[Phrase] = []
    for found in _MARKED.finditer(text):
        before, words = text[done : found.start()], found[2]
        pieces += before, words
        begin, length, done = length + len(before), length + len(before) + len(words), found.end()
        objects = tuple(sorted(map(int, found[1].split(","))))
        earlier = phrases.pop().ranges if phrases and phrases[-1].objects == objects else ()
        phrases.append(Phrase((*earlier, (begin, length)), objects))
    return Caption("".join([*pieces, text[done:]]), tuple(phrases))


def _full_list(scene: Scene, stream: RandomStream) -> str:
    return stream.choice(LIST_FRAMES).format(_join(_grouped(scene, stream), stream))


def _few(scene: Scene, stream: RandomStream) -> str:
    """Name a few of the objects."""
    few = _shuffled_indices(scene, stream)[: stream.integer(1, 2)]
    return stream.choice(LIST_FRAMES).format(_join([_phrase(scene, index, stream) for index in few], stream))


def _names_only(scene: Scene, stream: RandomStream) -> str:
    """List the class names alone."""
    names = [_marked(scene.objects[index].name, [index]) for index in _shuffled_indices(scene, stream)]
    return " and ".join(names) if stream.chance(0.3) else ", ".join(names)


def _located(scene: Scene, stream: RandomStream) -> str:
    """Name one object and its location in the image."""
    index = stream.choice(range(len(scene.objects)))
    noun, where = _phrase(scene, index, stream), _location(scene.objects[index], stream)
    frame = stream.choice(("{noun} {where}", "{where} there is {noun}", "{where}, {noun}", "{noun} is {where}"))
    return frame.format(noun=noun, where=where)


def _located_list(scene: Scene, stream: RandomStream) -> str:
    """Name up to three objects and the location of each in the image."""
    few = _shuffled_indices(scene, stream)[:3]
    if stream.chance(0.5):
        return ", ".join(f"{_phrase(scene, index, stream)} {_location(scene.objects[index], stream)}" for index in few)
    return ", ".join(f"{_location(scene.objects[index], stream)} {_phrase(scene, index, stream)}" for index in few)


def _related(scene: Scene, stream: RandomStream) -> str:
    """Name two objects and their spatial relation; a single object gets its location instead."""
    if len(scene.objects) < 2:
        return _located(scene, stream)
    order = _shuffled_indices(scene, stream)
    back, front = min(order[:2]), max(order[:2])
    relation = _relation(scene, back, front)
    if stream.chance(0.5):
        back, front, relation = front, back, OPPOSITE.get(relation, relation)
    joint = stream.choice(("", "is ")) + stream.choice(RELATIONS[relation])
    frame = "there is {} {} {}" if not joint.startswith("is ") and stream.chance(0.3) else "{} {} {}"
    return frame.format(_phrase(scene, back, stream), joint, _phrase(scene, front, stream))


def _relation(scene: Scene, first: int, second: int) -> str:
    """Return the relation of object `first`, the one further back, to object `second`: a key of `RELATIONS`."""
    if bool(((scene.coverages[first] > 127) & (scene.coverages[second] > 127)).any()):
        return "behind"
    a, b = scene.objects[first], scene.objects[second]
    dy, dx = a.center[0] - b.center[0], a.center[1] - b.center[1]
    if abs(dx) > 1.5 * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) > 1.5 * abs(dx):
        return "above" if dy < 0 else "below"
    return "near"


def _predicate(scene: Scene, stream: RandomStream) -> str:
    """Name one object with its color after its form."""
    index = stream.choice(range(len(scene.objects)))
    f, c = scene.objects[index].form, scene.objects[index].color
    whole = [f"a {f} in {c}", f"a {f} that is {c}", f"a {f} of {c} colour"]
    parted = f"{_marked(f'the {f}', [index])} is {_marked(c, [index])}"
    return stream.choice([parted, *(_marked(words, [index]) for words in whole)])


def _phrase(scene: Scene, index: int, stream: RandomStream) -> str:
    """Return the name of object `index`, marked, with an article and, sometimes, its size or texture."""
    obj = scene.objects[index]
    words = []
    size = "large" if obj.diameter >= LARGE else "small" if obj.diameter <= SMALL else None
    if size and stream.chance(0.35):
        words.append(stream.choice(SIZE_WORDS[size]))
    if obj.texture != "plain" and stream.chance(0.2):
        words.append(obj.texture)
    return _marked(_with_article([*words, obj.name], stream), [index])


def _with_article(words: list[str], stream: RandomStream) -> str:
    text = " ".join(words)
    article = "an" if text[0] in "aeiou" else "a"
    return f"{article} {text}" if stream.chance(0.9) else f"one {text}"


def _grouped(scene: Scene, stream: RandomStream) -> list[str]:
    """Return one marked phrase per class, in random order; objects of one class are counted together."""
    groups: dict[int, list[int]] = {}
    for index in _shuffled_indices(scene, stream):
        groups.setdefault(scene.objects[index].class_id, []).append(index)
    return [
        _phrase(scene, same[0], stream)
        if len(same) == 1
        else _marked(f"{NUMBERS[len(same)]} {plural(CLASS_NAMES[class_id])}", same)
        for class_id, same in groups.items()
    ]


def _shuffled_indices(scene: Scene, stream: RandomStream) -> list[int]:
    """Return the indices of the objects in random order."""
    return stream.shuffled(range(len(scene.objects)))


def plural(name: str) -> str:
    """Return the plural of a class name: "red crosses"."""
    return name + ("es" if name.endswith("s") else "s")


def _join(phrases: list[str], stream: RandomStream) -> str:
    """Return "a, b and c" or one of its variants."""
    if len(phrases) == 1:
        return phrases[0]
    last = stream.choice((" and ", " and ", ", ", " with "))
    return ", ".join(phrases[:-1]) + last + phrases[-1]


def _location(obj: ShapeObject, stream: RandomStream) -> str:
    """Return in words the cell of a 3 x 3 grid over the image that holds the object's center."""
    row, column = (min(2, int(3 * c / IMAGE_SIZE)) for c in obj.center)
    return stream.choice(LOCATIONS[row, column])
