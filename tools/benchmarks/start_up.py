"""From the start of a process to the first answer: `openvocab.load` against open_clip's own minimal script."""

import os
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image

from benchmarks.comparison import Row, Sides

MODEL = "ViT-B-16-quickgelu"
PEER = """
import open_clip, torch
from PIL import Image

model, _, preprocess = open_clip.create_model_and_transforms("{model}", pretrained="{weights}")
tokenizer = open_clip.get_tokenizer("{model}")
image, text = preprocess(Image.open("{photo}")).unsqueeze(0), tokenizer(["a photo of a cat.", "a photo of a dog."])
with torch.no_grad():
    image_embed, text_embed = model.eval().encode_image(image), model.encode_text(text)
image_embed /= image_embed.norm(dim=-1, keepdim=True)
text_embed /= text_embed.norm(dim=-1, keepdim=True)
print((model.logit_scale.exp() * image_embed @ text_embed.T).softmax(-1)[0, 0].item())
"""
OURS = """
import openvocab

print(openvocab.load("{config}")("{photo}", "cat, dog").score("cat"))
"""
CONFIG = """
clip = dict(model="{model}", pretrained="{weights}")
model = dict(
    type="OpenVocabModel",
    backbone=dict(type="CLIPBackbone", **clip),
    text_encoder=dict(type="CLIPTextEncoder", templates=["a photo of a {{}}."], **clip),
    head=dict(type="ContrastiveHead"),
)
test_dataloader = dict(dataset=dict(type="ClassificationFolder", images="", classes="", pipeline=[
    dict(type="LoadImage"), dict(type="ResizeCenterCrop", size=(224, 224)), dict(type="PackSample"),
]))
"""


def prepare() -> Sides:
    """Compare two scripts that read random weights from one file, and a photo; the error is that of a probability."""
    folder = Path(tempfile.mkdtemp(prefix="start_up_"))
    weights, photo_file = folder / "clip.pt", folder / "photo.png"
    names = dict(model=MODEL, weights=weights, photo=photo_file, config=folder / "config.py")
    torch.manual_seed(0)
    torch.save(open_clip.create_model(MODEL).state_dict(), weights)
    photo = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    Image.fromarray(photo).save(photo_file)
    for name, text in (("config.py", CONFIG), ("peer.py", PEER), ("ours.py", OURS)):
        (folder / name).write_text(text.format(**names), encoding="utf-8")
    peer, ours = (partial(_answer, folder / name) for name in ("peer.py", "ours.py"))
    return Sides(peer, ours, lambda expected, got: abs(expected - got))


def processor_seconds() -> float:
    """Return the seconds that processors have worked for the processes that this one has started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _answer(script: Path) -> float:
    package = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, str(script)]
    printed = subprocess.run(command, env=environment, cwd=script.parent, check=True, capture_output=True, text=True)
    return float(printed.stdout)


ROWS = (
    Row(
        "start_up",
        1.3,
        prepare,
        threads=1,
        clock=processor_seconds,
        note="seconds of the processor, from the start of a process to the first answer; random weights in a file",
    ),
)
