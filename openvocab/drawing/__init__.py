"""Pictures of predictions: label maps, boxes and masks, groups, legends."""
