"""Seeing backpropagation at work: the lessons (`lessons/`)."""
