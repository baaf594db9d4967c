"""Pictures of a run: sample grids and their animation (`grids.py`), the losses (`losses.py`), a training as it goes on
(`training.py`), the quality of the images (`quality.py`), the networks (`architecture.py`), arithmetic with latent vectors
(`latent.py`), points in the plane (`mixtures.py`), the graph of a computation (`graphs.py`).

Nothing here changes matplotlib's global state (no pyplot, no backend). So it works without a display, and beside a user's
own figures.
"""
from .architecture import save_architecture
from .figures import FORMATS
from .graphs import draw_graph
from .grids import animate, draw_grid, save_grid
from .latent import save_arithmetic, save_candidates
from .losses import save_losses
from .mixtures import save_densities, save_pushes, save_translations
from .quality import save_quality
from .training import draw_training

__all__ = ["FORMATS", "animate", "draw_graph", "draw_grid", "draw_training", "save_architecture", "save_arithmetic",
           "save_candidates", "save_densities", "save_grid", "save_losses", "save_pushes", "save_quality",
           "save_translations"]
