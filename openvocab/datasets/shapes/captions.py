"""Varied English captions that are true of a Shapes scene."""

from collections.abc import Callable, Sequence

from openvocab.datasets.shapes.random_stream import RandomStream
from openvocab.datasets.shapes.scene import IMAGE_SIZE, Scene, ShapeObject

LARGE, SMALL = 25.0, 14.0
"""Diameters in pixels from which and up to which an object may be called so."""
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
PLACES = {
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
    """Return `count` captions of a scene of at least one object, as different from each other as it allows.

    The first names every object; the others may name some of them.
    """
    captions = [_full_list(scene.objects, stream)]
    kinds: Sequence[Callable[[Scene, RandomStream], str]] = (_bare, _placed, _related, _placed_list, _some, _predicate)
    order = stream.shuffled(kinds)
    for turn in range(6 * count):
        if len(captions) == count:
            break
        caption = order[turn % len(order)](scene, stream)
        if caption not in captions:
            captions.append(caption)
    return captions


def _full_list(objects: Sequence[ShapeObject], stream: RandomStream) -> str:
    return stream.choice(LIST_FRAMES).format(_join(_grouped(objects, stream), stream))


def _some(scene: Scene, stream: RandomStream) -> str:
    """Name a few of the objects."""
    few = stream.shuffled(scene.objects)[: stream.integer(1, 2)]
    return stream.choice(LIST_FRAMES).format(_join([_phrase(obj, stream) for obj in few], stream))


def _bare(scene: Scene, stream: RandomStream) -> str:
    """Name the objects without any further word."""
    names = [obj.name for obj in stream.shuffled(scene.objects)]
    return " and ".join(names) if stream.chance(0.3) else ", ".join(names)


def _placed(scene: Scene, stream: RandomStream) -> str:
    """Say where in the image one object is."""
    obj = stream.choice(scene.objects)
    noun, place = _phrase(obj, stream), _place(obj, stream)
    frame = stream.choice(("{noun} {place}", "{place} there is {noun}", "{place}, {noun}", "{noun} is {place}"))
    return frame.format(noun=noun, place=place)


def _placed_list(scene: Scene, stream: RandomStream) -> str:
    """Say where in the image each of up to three objects is."""
    some = stream.shuffled(scene.objects)[:3]
    if stream.chance(0.5):
        return ", ".join(f"{_phrase(obj, stream)} {_place(obj, stream)}" for obj in some)
    return ", ".join(f"{_place(obj, stream)} {_phrase(obj, stream)}" for obj in some)


def _related(scene: Scene, stream: RandomStream) -> str:
    """Say how two objects stand to each other; of a single one, its place."""
    if len(scene.objects) < 2:
        return _placed(scene, stream)
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
    """Return what the object further back, `first`, is to the other: a key of `RELATIONS`."""
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
    """Say the color after the form."""
    obj = stream.choice(scene.objects)
    return stream.choice(("the {f} is {c}", "a {f} in {c}", "a {f} that is {c}", "a {f} of {c} colour")).format(
        f=obj.form, c=obj.color
    )


def _phrase(obj: ShapeObject, stream: RandomStream) -> str:
    """Return the object with its article and, at times, its size or texture."""
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
    """Return one phrase a class, in random order, counting objects of one class together."""
    groups: dict[int, list[ShapeObject]] = {}
    for obj in stream.shuffled(objects):
        groups.setdefault(obj.class_id, []).append(obj)
    return [
        _phrase(same[0], stream) if len(same) == 1 else f"{NUMBERS[len(same)]} {plural(same[0].name)}"
        for same in groups.values()
    ]


def plural(name: str) -> str:
    """Return several of a class: "red crosses"."""
    return name + ("es" if name.endswith("s") else "s")


def _join(phrases: list[str], stream: RandomStream) -> str:
    """Return "a, b and c" or one of its variants."""
    if len(phrases) == 1:
        return phrases[0]
    last = stream.choice((" and ", " and ", ", ", " with "))
    return ", ".join(phrases[:-1]) + last + phrases[-1]


def _place(obj: ShapeObject, stream: RandomStream) -> str:
    """Return the third of the image, in words, where the object's center is."""
    row, column = (min(2, int(3 * c / IMAGE_SIZE)) for c in obj.center)
    return stream.choice(PLACES[row, column])
