"""Tar shards (the WebDataset format), written and read resumably."""
