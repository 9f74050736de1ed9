"""GroupViT from CC3M, CC12M and RedCaps12M: the official network, data and recipe.

Paper: GroupViT: Semantic Segmentation Emerges from Text Supervision (arXiv 2202.11094), without the multi-label loss.
Command: torchrun --nproc_per_node 8 --nnodes 2 --rdzv_backend c10d --rdzv_endpoint HOST:29500
tools/train.py configs/groupvit_cc3m-cc12m-redcaps12m.py --launcher pytorch
Shards: one folder per dataset under data/captions (`tools/make_shards.py` writes them); in other folders:
--cfg-options train_dataloader.dataset.root=DIR
Official weights: python tools/convert_checkpoint.py groupvit group_vit_gcc_redcap_30e.pth groupvit.pth, then
python tools/test.py configs/groupvit_cc3m-cc12m-redcaps12m.py groupvit.pth (VOC; `groupvit_context.py`, `groupvit_coco_object.py` and
`groupvit_zeroshot_imagenet.py` for the others)
Hardware: 16 GPUs of 16 GB, 256 pairs each; about 2 days on V100 in the paper. Expected score: not yet measured. Published:
ImageNet zero-shot 51.6 top-1; mIoU 50.8 on VOC, 23.7 on Context, 27.5 on COCO-Object.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.groupvit_official import *

train_dataloader["dataset"].update(shards=["cc3m/*.tar", "cc12m/*.tar", "redcaps12m/*.tar"])

# 30 epochs of 6,326 whole batches of 4096 (of 25,914,635 pairs); 2 of them warm up from 4e-6. The rate is linear in the
# batch.
max_iters, warmup_iters = 189_780, 12_652
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = warmup_iters
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters)
