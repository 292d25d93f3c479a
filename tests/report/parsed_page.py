"""A page as the tests of the reports see it."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "hr", "input", "link"}
RESOURCES = {"src", "href", "data", "action", "poster", "srcset"}


class Page(HTMLParser):
    """Checks nesting and collects the text, the tags and the attributes."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.text, self.identifiers = [], [], [], "", []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.identifiers += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def assert_self_contained(page):
    parsed = Page(page)
    assert not {"script", "link", "iframe", "object", "embed", "img"} & set(parsed.tags)
    for name, value in parsed.attributes:
        if name in RESOURCES:
            assert value.startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"https?:|@import|url\((?!#)", page)
