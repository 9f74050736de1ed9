import copy
import pickle

import torch

from openvocab.text.recent_texts import RecentTexts


def test_the_result_that_was_not_used_for_longest_makes_room():
    recent = RecentTexts(2)
    made = []

    def find(key: str) -> str:
        return recent.find(key, lambda: made.append(key) or key)

    for key in "abacab":
        assert find(key) == key
    assert made == ["a", "b", "c", "b"] and len(recent) == 2
    recent.clear()
    assert find("a") == "a" and made[-1] == "a"


def test_results_of_prediction_may_be_used_in_training():
    with torch.inference_mode():
        kept = RecentTexts(1).find("a", lambda: torch.ones(2) * 2)
    weight = torch.ones(2, requires_grad=True)
    (weight * kept).sum().backward()
    assert weight.grad.tolist() == [2, 2]


def test_a_copy_starts_empty():
    recent = RecentTexts(3)
    recent.find("a", lambda: lambda: None)
    for other in (copy.deepcopy(recent), pickle.loads(pickle.dumps(recent))):
        assert len(other) == 0 and other.limit == 3
