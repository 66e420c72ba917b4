"""Sphinx settings for `make docs`: a site of the repository's Markdown files, and of docstrings where a page asks.

The source folder is the whole repository, so a relative link between any two pages works here and on a code host.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from cellseg_device import __version__

ROOT = Path(__file__).resolve().parents[1]
# The Makefile takes it from the npm package; without npm the reader's browser does, from the network
MERMAID = ROOT / "build" / "mermaid.min.js"
MERMAID_ADDRESS = "https://cdn.jsdelivr.net/npm/mermaid@12/dist/mermaid.min.js"

# The site's navigation: headings, and the pages below each, by their own titles or another. A page that is in none of
# them fails the build.
NAVIGATION = {
    "Count": [
        "docs/start",
        "docs/results",
        "docs/counting",
        "docs/corrections",
        "docs/formats",
        "docs/troubleshooting",
    ],
    "On the Pi": ["docs/camera", "docs/page", "docs/unattended", "docs/edge-tpu"],
    "On the workstation": ["docs/teach", "docs/import", "docs/train", "docs/python-api"],
    "Models": [
        "models/nuclei",
        "models/nuclei-nano",
        "models/chamber",
        "models/kind",
        "What was tried </models/NOTES>",
        "models/samples/README",
    ],
    "How good, how fast": [
        "docs/benchmarks",
        "Peers, all columns </benchmarks/README>",
        "Architectures </benchmarks/architectures>",
        "Stress, nuclei </benchmarks/stress>",
        "Stress, nuclei-nano </benchmarks/stress-nano>",
    ],
    "Develop": ["docs/architecture", "CONTRIBUTING", "CHANGELOG", "SECURITY"],
}

project = "cellseg"
version = release = __version__
project_copyright = "the cellseg contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "models/**.md", "benchmarks/*.md"]
exclude_patterns = [".*", "build", "device", "host", "runs", "tests"]

myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]
napoleon_google_docstring = False
autodoc_typehints = "none"  # they are in the signatures and the docstrings
add_module_names = False

html_theme = "furo"
html_title = f"cellseg {version}"
templates_path = ["_templates"]
html_additional_pages = {"index": "redirect.html"}
html_static_path = ["site.css", *([str(MERMAID)] if MERMAID.exists() else [])]
html_css_files = ["site.css"]
html_copy_source = False


class Mermaid(Directive):
    """A diagram, drawn in the reader's browser."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the diagram's text where mermaid.js looks for it."""
        text = html.escape("\n".join(self.content))
        return [nodes.raw("", f'<pre class="mermaid">{text}</pre>', format="html", is_diagram=True)]


def add_navigation(_app: Sphinx, name: str, source: list[str]) -> None:
    """Append the site's navigation to the README, which stays free of Sphinx's own marks."""
    if name == root_doc:
        for heading, pages in NAVIGATION.items():
            listed = "\n".join(page if "</" in page else f"/{page}" for page in pages)
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{listed}\n```\n"


def add_mermaid(
    app: Sphinx, _page: str, _template: str, _context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load mermaid.js on the pages that have a diagram."""
    if doctree is not None and any("is_diagram" in node for node in doctree.findall(nodes.raw)):
        app.add_js_file("mermaid.min.js" if MERMAID.exists() else MERMAID_ADDRESS)
        app.add_js_file(None, body="mermaid.initialize({startOnLoad: true, theme: 'neutral'});")


def setup(app: Sphinx) -> None:
    """Connect all this with Sphinx."""
    app.add_directive("mermaid", Mermaid)
    app.connect("source-read", add_navigation)
    app.connect("html-page-context", add_mermaid)
