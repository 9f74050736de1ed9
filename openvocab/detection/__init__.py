"""The two stages of a region-based detector, and the parts of one whose locations find objects in one stage."""
