"""The two stages of a region-based detector: proposals, and what is said of each."""
