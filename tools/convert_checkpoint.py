"""Convert an official checkpoint to ours.

python tools/convert_checkpoint.py lseg demo_e200.ckpt lseg_ade.pth
python tools/test.py configs/lseg_ade.py lseg_ade.pth

python tools/convert_checkpoint.py groupvit hf-hub:nvidia/groupvit-gcc-yfcc groupvit.pth
python tools/test.py configs/groupvit_voc.py groupvit.pth --cfg-options model.head.multi_label.num_prompts=0

python tools/convert_checkpoint.py vild vild.safetensors vild.pth --clip ViT-B-32.pt
"""

from openvocab.commands.main import run_tool

if __name__ == "__main__":
    run_tool("convert", __doc__)
