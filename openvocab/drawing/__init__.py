"""Pictures of what was predicted: label maps, boxes and masks, groups, legends."""
