"""The 48 classes of the Shapes world, eight colors times six forms, and their split into seen and unseen."""

COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
FORMS = ("circle", "square", "triangle", "star", "cross", "ring")
CLASS_NAMES = tuple(f"{color} {form}" for color in COLORS for form in FORMS)
"""Class index k has label k + 1; label 0 is background."""


def is_unseen(class_id: int) -> bool:
    """Return whether class `class_id` is absent from the dense training labels.

    Two colors of each form and one or two forms of each color are unseen, 12 of the 48 pairs, so that every color and
    every form occurs in at least four seen pairs.
    """
    color, form = divmod(class_id, len(FORMS))
    return (color - form) % len(COLORS) in (0, 3)


UNSEEN = tuple(k for k in range(len(CLASS_NAMES)) if is_unseen(k))
SEEN = tuple(k for k in range(len(CLASS_NAMES)) if not is_unseen(k))
