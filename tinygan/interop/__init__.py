"""The connections to other libraries: NumPy's functions on Tensors, foreign arrays and files, PyTorch's names."""
__all__: list[str] = []
