import torch

from openvocab.heads.word_labels import areas_won, class_probabilities, label, small_classes


def test_a_class_takes_its_best_word_of_one_softmax():
    logits = torch.tensor([1.0, 2.0, 0.5, -1.0])
    exponentials = logits.exp()
    expected = torch.stack([exponentials[:2].max(), *exponentials[2:]]) / exponentials.sum()
    probabilities = class_probabilities(logits[:, None], torch.tensor([0, 0, 1, 2]))
    torch.testing.assert_close(probabilities[:, 0], expected)
    torch.testing.assert_close(class_probabilities(logits[:, None], None)[:, 0], exponentials / exponentials.sum())


def test_background_takes_what_stays_below_the_threshold():
    probabilities = torch.tensor([[0.1, 0.1], [0.29, 0.31], [0.2, 0.1]])
    assert label(probabilities, 0, 0.3, None).tolist() == [0, 1]
    assert label(probabilities, 2, 0.3, None).tolist() == [2, 1]
    assert label(probabilities, None, 0.3, None).tolist() == [1, 1]
    assert label(probabilities, 0, None, None).tolist() == [1, 1]


def test_a_class_that_is_left_out_makes_way_for_the_next():
    probabilities = torch.tensor([[0.1], [0.5], [0.4]])
    absent = torch.tensor([False, True, False])
    assert label(probabilities, 0, 0.3, absent).tolist() == [2]
    assert label(probabilities, 0, 0.45, absent).tolist() == [0]


def test_areas_are_shares_of_what_is_not_background():
    winners = torch.tensor([0] * 80 + [1] * 2 + [2] * 18)
    probabilities = torch.nn.functional.one_hot(winners, 4).T.float()
    areas = areas_won(probabilities)
    assert areas.tolist() == [80, 2, 18, 0]
    assert small_classes(areas, 0.1, background=0).tolist() == [False, True, False, True]  # at most a tenth
    assert small_classes(areas, 0.09, background=0).tolist() == [False, False, False, True]
    assert small_classes(areas, 0.1, background=None).tolist() == [False, True, False, True]
