"""What `openvocab predict` does around a predictor: find photos, put results into files, and go on after a failure."""
