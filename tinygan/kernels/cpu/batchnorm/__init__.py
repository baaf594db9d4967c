"""Batch normalisation on the CPU."""
