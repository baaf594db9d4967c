"""The sections of the page that explains a run. Each file has `build(run)`: the section's JSON, or Absent with the
reason."""
from __future__ import annotations

__all__: list[str] = []
