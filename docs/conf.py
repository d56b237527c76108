"""How the documentation is built: `make docs`."""

import re
import warnings
from importlib.metadata import version as version_of
from pathlib import Path

import matplotlib

matplotlib.use("agg")

project = "fairprune_sk"
author = "the fairprune_sk developers"
release = version = version_of("fairprune_sk")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates", "gallery/*.py", "gallery/*.ipynb"]
exclude_patterns += ["gallery/*.md5", "gallery/*.json", "gallery/*.zip", "sg_execution_times.rst"]
templates_path = ["_templates"]
autosummary_generate = True
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # numpydoc says them, in words
numpydoc_show_class_members = False
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
# Links to folders and to source files are for readers of the repository.
suppress_warnings = ["config.cache"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "fairprune_sk"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {"*": [], "api": ["sidebar-nav-bs"]}  # the others have nothing below them
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
}
sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": ("_repr_html_",),
    "default_thumb_file": str(Path(__file__).parent / "comparison" / "trade_off_90.png"),
    "image_scrapers": ("matplotlib",),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "remove_config_comments": True,
}
warnings.filterwarnings("ignore", message=".*FigureCanvasAgg is non-interactive.*")


def linked(app, docname, source):
    """Lead links out of docs/ to the pages that show these files."""
    source[0] = re.sub(r"\.\./CONTRIBUTING\.md", "contributing.md", source[0])
    source[0] = re.sub(r"\.\./CHANGELOG\.md", "changelog.md", source[0])


def setup(app):
    """Register the hook."""
    app.connect("source-read", linked)
