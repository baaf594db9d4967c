"""Data sets: MNIST (found, verified, downloaded), `glyphs` (drawn, needs nothing), own images and arrays.

`dataset.py` holds `Dataset`; `loading.py` decides which data set `load` returns; `mnist.py`, `glyphs.py`, `images.py`
and `arrays.py` each read one kind; `download.py` and `cache.py` are what they share.
"""

from tinygan.cache import cache_folder
from tinygan.data.dataset import DataError, Dataset
from tinygan.data.loading import load

__all__ = ["DataError", "Dataset", "cache_folder", "load"]
