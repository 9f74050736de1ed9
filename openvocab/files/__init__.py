"""Write files atomically, and read files of other programs safely."""
