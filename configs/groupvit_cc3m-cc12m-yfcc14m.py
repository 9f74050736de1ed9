"""GroupViT from CC3M, CC12M and YFCC14M: the official network, data and recipe.

Paper: GroupViT: Semantic Segmentation Emerges from Text Supervision (arXiv 2202.11094), with the multi-label loss over 3 noun prompts.
Command: torchrun --nproc_per_node 8 --nnodes 2 --rdzv_backend c10d --rdzv_endpoint HOST:29500
tools/train.py configs/groupvit_cc3m-cc12m-yfcc14m.py --launcher pytorch
Shards: one folder per dataset under data/captions (`tools/make_shards.py` writes them); in other folders:
--cfg-options train_dataloader.dataset.root=DIR
Official weights: python tools/convert_checkpoint.py groupvit group_vit_gcc_yfcc_30e.pth groupvit.pth, then
python tools/test.py configs/groupvit_cc3m-cc12m-yfcc14m.py groupvit.pth (VOC; `groupvit_context.py`, `groupvit_coco_object.py` and
`groupvit_zeroshot_imagenet.py` for the others)
Hardware: 16 GPUs of 16 GB, 256 pairs each; about 2 days on V100 in the paper. Expected score: not yet measured. Published:
ImageNet zero-shot 43.7 top-1; mIoU 52.3 on VOC, 22.4 on Context, 24.3 on COCO-Object.
"""

from mmengine.config import read_base

from openvocab.datasets.transforms.noun_prompts import AddNounPrompts, NltkNouns

with read_base():
    from ._base_.groupvit_official import *

model["head"]["multi_label"] = dict(num_prompts=3)
# as in the official code, verbs too; without NLTK's data: dict(type=RuleNouns)
nouns = dict(type=NltkNouns, verbs=True)
prompts = dict(type=AddNounPrompts, count=3, extractor=nouns, templates="imagenet80", distinct=False)
train_dataloader["dataset"]["pipeline"].insert(-1, prompts)
train_dataloader["dataset"].update(shards=["cc3m/*.tar", "cc12m/*.tar", "yfcc14m/*.tar"])

# 30 epochs of 6,997 whole batches of 4096 (of 28,663,147 pairs); 2 of them warm up from 4e-6. The rate is linear in the
# batch.
max_iters, warmup_iters = 209_910, 13_994
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = warmup_iters
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters)
