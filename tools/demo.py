"""Find classes, by their names, or the phrases of a caption in photos: segments or boxes, whichever the model predicts.

python tools/demo.py photo.jpg --classes "cat, sofa, floor, other" --config configs/lseg_shapes.py \
    --checkpoint work_dirs/lseg_shapes/best.pth --out overlay.png
Thousands of names, one per line:
python tools/demo.py photo.jpg --classes names.txt --config configs/vild_shapes.py \
    --checkpoint work_dirs/vild_shapes/best.pth --min-score 0.5
Without training, with the weights that the config starts from (docs/training_free.md):
python tools/demo.py photo.jpg --classes "cat, sofa, floor" --config configs/dense_clip_ade.py
The name of the background, for a model that finds it by a threshold:
python tools/demo.py photo.jpg --classes "red circle, blue star, other" --background other \
    --config configs/groupvit_shapes.py --checkpoint work_dirs/groupvit_shapes/best.pth
The phrases of a caption, for a model that reads phrases:
python tools/demo.py photo.jpg --caption "a red circle next to a blue star" --config configs/glip_shapes.py \
    --checkpoint work_dirs/glip_shapes/best.pth
The groups that GroupViT forms, without class names:
python tools/demo.py photo.jpg --show groups --config configs/groupvit_shapes.py \
    --checkpoint work_dirs/groupvit_shapes/best.pth --out groups.png
A folder of photos, searched recursively; the pictures are written to the same subfolders of --out:
python tools/demo.py photos --classes "cat, sofa, floor, other" --config configs/lseg_shapes.py \
    --checkpoint work_dirs/lseg_shapes/best.pth --out pictures

A photo that cannot be read or predicted, or whose picture would have too long a name, is skipped and listed at the end.
Exit code: 0; 1 if a photo was skipped; 2 if the command itself cannot be carried out.
"""

from openvocab.commands.main import run_tool

if __name__ == "__main__":
    run_tool("demo", __doc__)
