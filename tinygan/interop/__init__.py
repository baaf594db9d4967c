"""What meets other libraries: NumPy's functions on Tensors, arrays and files of other kinds, PyTorch's names."""
__all__: list[str] = []
