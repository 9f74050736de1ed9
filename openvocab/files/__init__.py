"""Files of all kinds: written whole or not at all, read with suspicion."""
