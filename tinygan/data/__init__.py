"""Data sets: MNIST (downloaded and verified), `glyphs` (drawn from fonts), own images, IDX files and arrays.

`dataset.py` has the class `Dataset`. `loading.py` decides which data set `load` returns. `mnist.py`, `glyphs.py`,
`idx_folder.py`, `images.py` and `arrays.py` each read one kind of data set. `idx.py` reads one IDX file, and `files.py`
finds the images in a folder. `mixtures.py` makes data with known modes, and `domains.py` two domains
to translate between. `feeding.py` makes batches on a device, and `download.py` fetches a file.
"""

from tinygan.cache import cache_folder
from tinygan.data.dataset import DataError, Dataset
from tinygan.data.domains import DOMAINS, two_domains
from tinygan.data.loading import load
from tinygan.data.mixtures import Mixture, gaussian_grid, gaussian_ring, stacked

__all__ = ["DOMAINS", "DataError", "Dataset", "Mixture", "cache_folder", "gaussian_grid", "gaussian_ring", "load", "stacked",
           "two_domains"]
