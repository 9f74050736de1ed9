"""Write varied English captions that are true for a Shapes scene."""

from collections.abc import Callable, Sequence

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


def write_captions(scene: Scene, stream: RandomStream, count: int = 5) -> list[str]:
    """Return captions of a scene, distinct from each other; fewer than `count` if the scene allows no more.

    The first names every object; the others may name some of them.

    Args:
        scene: a scene with at least one object.
        stream: source of every choice.
        count: number of captions.
    """
    captions = [_full_list(scene.objects, stream)]
    writers: Sequence[Callable[[Scene, RandomStream], str]] = (
        _names_only, _located, _related, _located_list, _few, _predicate,
    )  # fmt: skip
    order = stream.shuffled(writers)
    for turn in range(6 * count):
        if len(captions) == count:
            break
        caption = order[turn % len(order)](scene, stream)
        if caption not in captions:
            captions.append(caption)
    return captions


def _full_list(objects: Sequence[ShapeObject], stream: RandomStream) -> str:
    return stream.choice(LIST_FRAMES).format(_join(_grouped(objects, stream), stream))


def _few(scene: Scene, stream: RandomStream) -> str:
    """Name a few of the objects."""
    few = stream.shuffled(scene.objects)[: stream.integer(1, 2)]
    return stream.choice(LIST_FRAMES).format(_join([_phrase(obj, stream) for obj in few], stream))


def _names_only(scene: Scene, stream: RandomStream) -> str:
    """List the class names alone."""
    names = [obj.name for obj in stream.shuffled(scene.objects)]
    return " and ".join(names) if stream.chance(0.3) else ", ".join(names)


def _located(scene: Scene, stream: RandomStream) -> str:
    """Name one object and its location in the image."""
    obj = stream.choice(scene.objects)
    noun, where = _phrase(obj, stream), _location(obj, stream)
    frame = stream.choice(("{noun} {where}", "{where} there is {noun}", "{where}, {noun}", "{noun} is {where}"))
    return frame.format(noun=noun, where=where)


def _located_list(scene: Scene, stream: RandomStream) -> str:
    """Name up to three objects and the location of each in the image."""
    few = stream.shuffled(scene.objects)[:3]
    if stream.chance(0.5):
        return ", ".join(f"{_phrase(obj, stream)} {_location(obj, stream)}" for obj in few)
    return ", ".join(f"{_location(obj, stream)} {_phrase(obj, stream)}" for obj in few)


def _related(scene: Scene, stream: RandomStream) -> str:
    """Name two objects and their spatial relation; a single object gets its location instead."""
    if len(scene.objects) < 2:
        return _located(scene, stream)
    order = stream.shuffled(range(len(scene.objects)))
    first, second = min(order[:2]), max(order[:2])
    relation = _relation(scene, first, second)
    back, front = scene.objects[first], scene.objects[second]
    if stream.chance(0.5):
        back, front, relation = front, back, OPPOSITE.get(relation, relation)
    joint = stream.choice(("", "is ")) + stream.choice(RELATIONS[relation])
    frame = "there is {} {} {}" if not joint.startswith("is ") and stream.chance(0.3) else "{} {} {}"
    return frame.format(_phrase(back, stream), joint, _phrase(front, stream))


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
    obj = stream.choice(scene.objects)
    return stream.choice(("the {f} is {c}", "a {f} in {c}", "a {f} that is {c}", "a {f} of {c} colour")).format(
        f=obj.form, c=obj.color
    )


def _phrase(obj: ShapeObject, stream: RandomStream) -> str:
    """Return the object's name with an article and, sometimes, its size or texture."""
    words = []
    size = "large" if obj.diameter >= LARGE else "small" if obj.diameter <= SMALL else None
    if size and stream.chance(0.35):
        words.append(stream.choice(SIZE_WORDS[size]))
    if obj.texture != "plain" and stream.chance(0.2):
        words.append(obj.texture)
    return _with_article([*words, obj.name], stream)


def _with_article(words: list[str], stream: RandomStream) -> str:
    text = " ".join(words)
    article = "an" if text[0] in "aeiou" else "a"
    return f"{article} {text}" if stream.chance(0.9) else f"one {text}"


def _grouped(objects: Sequence[ShapeObject], stream: RandomStream) -> list[str]:
    """Return one phrase per class, in random order; objects of one class are counted together."""
    groups: dict[int, list[ShapeObject]] = {}
    for obj in stream.shuffled(objects):
        groups.setdefault(obj.class_id, []).append(obj)
    return [
        _phrase(same[0], stream) if len(same) == 1 else f"{NUMBERS[len(same)]} {plural(same[0].name)}"
        for same in groups.values()
    ]


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
