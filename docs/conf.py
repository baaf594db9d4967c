"""The documentation site. From the root of the checkout, with the extra `docs` installed:

    python -m sphinx -W --keep-going -b html docs docs/_build/html
"""
from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))  # for the lessons

import tinygan  # noqa: E402  (the checkout, which the line above puts first)

project = "tinygan"
author = "The tinygan authors"
copyright = f"2026, {author}"
release = version = tinygan.__version__
html_title = f"tinygan {release}"

extensions = [
    "sphinx.ext.autodoc",
    "myst_nb",  # MyST's Markdown, and the lessons, which it runs
    "sphinx_copybutton",
    "docstrings", "names", "commandline", "outside", "checking",  # ours, in `_ext`
]
exclude_patterns = ["_build", "_ext", "conf.py"]

# Markdown
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

# The lessons are scripts in jupytext's percent format. A build runs them, and an error in one of them ends the build.
nb_custom_formats = {".py": "lessons.read"}
nb_execution_mode = "cache"  # a lesson runs again when its code has changed; a fresh build runs all
nb_execution_cache_path = str(HERE / "_build" / ".jupyter_cache")
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_output_stderr = "remove"  # the notes on kernels that are being compiled
nb_merge_streams = True

# The reference
smartquotes = False  # -- is a flag's beginning, and no dash
nitpicky = True
nitpick_ignore_regex = [("py:(class|data)", ".*")]  # in annotations: NumPy's types, private ones, type variables
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
autodoc_class_signature = "mixed"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
maximum_signature_line_length = 100
add_module_names = False
toc_object_entries_show_parents = "hide"

# The pages
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tinygan.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "tango"
pygments_dark_style = "monokai"
copybutton_exclude = ".linenos, .gp, .go"
