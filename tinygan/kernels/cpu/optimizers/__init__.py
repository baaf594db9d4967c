"""The optimisers' updates on the CPU."""
