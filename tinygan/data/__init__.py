"""Data sets: MNIST (found, verified, downloaded), `glyphs` (drawn, needs nothing), own images, IDX files and arrays.

`dataset.py` holds `Dataset`; `loading.py` decides which data set `load` returns; `mnist.py`, `glyphs.py`, `idx_folder.py`,
`images.py` and `arrays.py` each read one kind; `idx.py` reads one IDX file, `files.py` finds the images in a folder;
`mixtures.py` makes data with known modes; `download.py` and `cache.py` are what they share.
"""

from tinygan.cache import cache_folder
from tinygan.data.dataset import DataError, Dataset
from tinygan.data.loading import load
from tinygan.data.mixtures import Mixture, gaussian_grid, gaussian_ring, stacked

__all__ = ["DataError", "Dataset", "Mixture", "cache_folder", "gaussian_grid", "gaussian_ring", "load", "stacked"]
