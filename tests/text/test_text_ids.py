"""Equal texts have equal numbers, in every process."""

from openvocab.text.text_ids import text_ids


def test_text_ids_are_the_same_in_every_process():
    ids = text_ids(["a red circle", "blue", "a red circle"])
    assert ids.tolist() == [3868813310041309068, -2627864690955420270, 3868813310041309068]
    assert text_ids([]).shape == (0,)
