"""The 48 classes of the Shapes world: eight colours times six forms, and which pairs stay unseen."""

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
FORMS = ("circle", "square", "triangle", "star", "cross", "ring")
CLASS_NAMES = tuple(f"{colour} {form}" for colour in COLOURS for form in FORMS)
"""Row k of this tuple has label k + 1; label 0 is background."""


def is_unseen(class_id: int) -> bool:
    """Return whether row `class_id` of `CLASS_NAMES` is held out of the dense training labels.

    Two colours of each form are unseen and one or two forms of each colour, 12 pairs of 48, so every colour and every
    form is met in at least four seen pairs.
    """
    colour, form = divmod(class_id, len(FORMS))
    return (colour - form) % len(COLOURS) in (0, 3)


UNSEEN = tuple(k for k in range(len(CLASS_NAMES)) if is_unseen(k))
SEEN = tuple(k for k in range(len(CLASS_NAMES)) if not is_unseen(k))
