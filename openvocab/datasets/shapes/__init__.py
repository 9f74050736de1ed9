"""The Shapes world: labelled scenes drawn to disk in the formats of real data sets."""
