"""What a CLIP says of regions of the training images: computed once, kept on disk, read while training."""
