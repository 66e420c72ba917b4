"""Checks of HTML pages: by their text, and in a browser."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from serving import until

VOID = {"meta", "img", "br", "link", "hr", "input"}
QUIET = {"capture_output": True, "check": True, "timeout": 120, "text": True}

needs_browser = pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium to look at the page")


class Checked(HTMLParser):
    """Fails where a tag is not closed in its turn, and gathers what a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.images, self.addresses, self.tags, self.ids = [], [], [], set(), []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        if tag == "img":
            self.images.append(given["src"])
            assert given["alt"]
        self.addresses += [value for name, value in attrs if name in ("href", "src", "srcset", "data", "action")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_page(text: str, files: Sequence[str] = ()) -> Checked:
    """Check that a page is well-formed, and refers to nothing but its own sections, and these files beside it."""
    page = Checked(text)
    assert page.images
    assert all(src.startswith("data:image/") for src in page.images)
    assert [a for a in page.addresses if not a.startswith(("data:image/", "#"))] == list(files)
    # The contents lead to every section, in order
    assert page.ids == [a[1:] for a in page.addresses if a.startswith("#")] == list(dict.fromkeys(page.ids))
    assert page.ids
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    assert "http" not in text
    assert "url(" not in text
    assert "@media print" in text
    return page


def browser(folder: Path) -> list[str]:
    """The command of a browser whose profile is in this folder."""
    return ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]


def shown_in_browser(page: Path, folder: Path, width: int) -> tuple[int, int, int]:
    """Open a page in a frame of this width; return its own width, the tables that are cut, the images not shown."""
    frame = (
        f"<body><iframe src='{page.resolve().as_uri()}' width={width} height=900></iframe>"
        "<script>window.onload = () => { const page = document.querySelector('iframe').contentDocument;"
        "document.title = [page.documentElement.scrollWidth,"
        "[...page.querySelectorAll('.wide')].filter(t => t.scrollWidth > t.clientWidth).length,"
        "[...page.images].filter(i => !i.naturalWidth).length].join(' ') }</script></body>"
    )
    (folder / "frame.html").write_text(frame)
    command = [*browser(folder), "--allow-file-access-from-files", "--window-size=1400,1000", "--dump-dom"]
    shown = subprocess.run([*command, (folder / "frame.html").as_uri()], **QUIET).stdout
    found = shown.split("<title>")[1].split("</title>")[0].split()
    return int(found[0]), int(found[1]), int(found[2])


def became(tab, condition: str) -> None:
    """Wait until a condition in the page holds; playwright's own way needs a looser policy."""
    until(lambda: tab.evaluate(condition))


def drawn(tab) -> tuple[int, int]:
    """What tells one overlay on the screen from another, and how many of its pixels are outlines of counted cells."""
    number, green = tab.evaluate(
        """async () => {
            const canvas = document.querySelector(".overlay");
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let [number, green] = [0, 0];
            for (const pixel of new Uint32Array(data.buffer)) {
                number = (Math.imul(number, 31) + pixel) | 0;
                green += pixel === 0xff5cff00;
            }
            return [number, green];
        }"""
    )
    return number, green
