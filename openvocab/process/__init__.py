"""What a process asks of its machine: cores, memory, precision, signals."""
