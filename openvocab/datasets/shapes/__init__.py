"""The Shapes world: labeled scenes drawn to disk in the formats of real datasets."""
