"""Networks for other programs: the ops that a network computes, as an ONNX model or as a PyTorch module."""
__all__: list[str] = []
