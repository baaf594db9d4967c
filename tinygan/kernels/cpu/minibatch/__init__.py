"""Minibatch discrimination on the CPU."""
