"""The page of a report: well-formed, self-contained, and no text in it is markup."""

from html.parser import HTMLParser

from openvocab.report.page import ReportContent, report_page

EVIL = "<b>&\"'</b><script>alert(1)</script>"
PNG, JPEG = b"\x89PNG picture", b"\xff\xd8 photo"


class Reader(HTMLParser):
    """Collect tags, attributes and text; check that tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.texts, self.sources = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read(content: ReportContent) -> Reader:
    reader = Reader()
    reader.feed(report_page(content))
    assert reader.open == []
    return reader


def test_every_text_is_escaped():
    content = ReportContent(
        title=EVIL, status=EVIL, cards=[(EVIL, EVIL)], scores=[{EVIL: EVIL}], pictures={EVIL: [PNG, JPEG]},
        class_rows=[{"class": EVIL, "IoU (%)": 1.0}], class_note=EVIL, commands=[(EVIL, EVIL)],
        facts={EVIL: {EVIL: EVIL}},
    )  # fmt: skip
    reader = read(content)
    assert "script" not in reader.tags and reader.tags.count("b") == 1  # the value of the card
    assert sum(EVIL in text for text in reader.texts) == 15
    assert [source.partition(";")[0] for source in reader.sources] == ["data:image/png", "data:image/jpeg"]


def test_empty_parts_are_left_out_and_missing_values_are_a_dash():
    rows = [
        {"class": "cat", "IoU (%)": 12.345, "pixels": 1234567, "role": None},
        {"class": "dog", "IoU (%)": float("nan")},
    ]
    reader = read(ReportContent("run", "finished", class_rows=rows, pictures={"Curves": []}))
    assert "Curves" not in reader.texts and "Scores" not in reader.texts and "role" not in reader.texts
    assert {"12.35", "–", "1,234,567"} <= set(reader.texts)
    assert reader.tags.count("td") == 6
