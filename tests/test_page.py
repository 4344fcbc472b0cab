"""What all pages have in common."""

from __future__ import annotations

from epochal.page import document, opening, safe


def test_a_page_is_whole_and_forbids_everything_else() -> None:
    page = document("Epochal test", "a < b & \udcff", "<p>inner</p>", "p { margin: 0; }")
    assert page.startswith(opening("Epochal test"))
    assert "<title>a &lt; b &amp; \\udcff</title>" in page
    assert "default-src 'none'" in page
    assert page.count("<p>inner</p>") == page.count("p { margin: 0; }") == 1
    assert safe("'\"") == "&#x27;&quot;"
