"""Seeing backpropagation at work: the lessons (`lessons/`)."""
__all__ = ["lessons"]
