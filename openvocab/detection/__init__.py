"""The two stages of a region-based detector: proposals, and their boxes, masks and classes."""
