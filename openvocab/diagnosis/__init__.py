"""What this machine and this environment offer, and what is wrong with them: `openvocab doctor`."""
