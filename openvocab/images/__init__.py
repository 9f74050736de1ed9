"""Images and label maps: from files, bytes, arrays and addresses to pixels."""
