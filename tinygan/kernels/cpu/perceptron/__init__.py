"""Multilayer perceptrons in one pass on the CPU."""
