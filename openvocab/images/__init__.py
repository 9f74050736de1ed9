"""Read images and label maps from files, bytes and arrays."""
