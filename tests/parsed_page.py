"""Pages of HTML, taken apart."""

from html.parser import HTMLParser


class Parsed(HTMLParser):
    """The tags, texts and attributes of a page, as a browser finds them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.attributes = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))

    def handle_data(self, data):
        self.texts.append(data)
