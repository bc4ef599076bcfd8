"""Checks that every page must pass: it parses, it is closed in itself, it loads nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Collects what a page holds, and whether its tags pair up."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.tips: list[str] = []
        self.ids: list[str] = []
        self.rows = 0
        self.faults: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.rows += tag == "tr"
        for key, value in attrs:
            if key in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                self.loads.append(value or "")
            if key == "data-tip":
                self.tips.append(value or "")
            if key == "id":
                self.ids.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


def check_page(text: str) -> Page:
    """Assert the above; returns what was found."""
    page = Page(text)
    assert not page.faults
    assert not page.open
    assert all(load.startswith("#") for load in page.loads), page.loads
    assert not re.search(r"@import|url\((?!#)", text)
    assert "<script src" not in text
    assert "link" not in page.tags
    assert not re.search(r"\$(title|body)", text)
    return page
