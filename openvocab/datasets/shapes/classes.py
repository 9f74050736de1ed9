"""The 48 classes of the Shapes world: eight colors times six forms, and which pairs stay unseen."""

COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
FORMS = ("circle", "square", "triangle", "star", "cross", "ring")
CLASS_NAMES = tuple(f"{color} {form}" for color in COLORS for form in FORMS)
"""Row k of this tuple has label k + 1; label 0 is background."""


def is_unseen(class_id: int) -> bool:
    """Return whether row `class_id` of `CLASS_NAMES` is held out of the dense training labels.

    Two colors of each form are unseen and one or two forms of each color, 12 pairs of 48, so every color and every
    form is met in at least four seen pairs.
    """
    color, form = divmod(class_id, len(FORMS))
    return (color - form) % len(COLORS) in (0, 3)


UNSEEN = tuple(k for k in range(len(CLASS_NAMES)) if is_unseen(k))
SEEN = tuple(k for k in range(len(CLASS_NAMES)) if not is_unseen(k))
