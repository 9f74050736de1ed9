"""A killed run on a GPU resumes to equal bits, its generators there included."""

import pytest
import torch
from test_resume import kill_and_resume

from openvocab.checkpoint.checkpoint import load_checkpoint


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("amp", [False, True])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, amp):
    kill_and_resume(tmp_path, [11], workers=0, ema=True, amp=amp)  # dropout draws from the generator of the GPU
    (state,) = load_checkpoint(tmp_path / "whole" / "last.pth")["random_states"]
    assert len(state["cuda"]) == torch.cuda.device_count()
