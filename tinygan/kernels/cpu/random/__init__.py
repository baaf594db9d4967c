"""Random numbers on the CPU."""
