"""Pictures of a run: sample grids and their animation (`grids.py`), the losses (`losses.py`).

Nothing here touches matplotlib's global state (no pyplot, no backend), so it works without a display and beside a
user's own figures.
"""
from .grids import animate, draw_grid, save_grid
from .losses import save_losses

__all__ = ["animate", "draw_grid", "save_grid", "save_losses"]
