import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from pgpo_jax import reports
from pgpo_jax.reports import (
    Curve,
    Interval,
    Page,
    difference_interval,
    interval_figure,
    line_figure,
    mean_interval,
)

HOSTILE = (
    '</td><script>alert(1)</script><img src="http://evil/x" onerror=alert(2)>" \x00 \ud800 {{7*7}}'
)


class Reader(HTMLParser):
    """What a browser would act on: tags, attributes and ids; and whether tags are balanced."""

    VOID = frozenset({"meta", "br", "img", "link", "input"})

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.balanced = True
        self.feed(html)
        self.balanced &= not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        self.balanced &= bool(self._open) and self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


ACTIVE = frozenset({"script", "img", "iframe", "object", "embed", "link", "form", "base"})
LOADING = frozenset({"src", "href", "xlink:href", "srcset", "action", "data", "poster"})


def unsafe(html: str) -> list[str]:
    """All that would run or be fetched."""
    read = Reader(html)
    found = [tag for tag in read.tags if tag in ACTIVE]
    found += [name for name, _ in read.attributes if name.startswith("on")]
    found += [v for n, v in read.attributes if n in LOADING and not v.startswith("#")]
    found += re.findall(r"url\((?!#)[^)]*\)|@import[^;]*", html)
    return found


def full_page(text: str) -> Page:
    page = Page(text, text)
    page.heading(text)
    page.text(text)
    page.table([text, "n"], [[text, 1]], caption=text)
    page.table(["a", "b", "c", text], [[text, 1.0, None, Interval(0.5, 0.2, 0.8)]])
    page.curves(
        [Curve(text, [0, 1], [0.0, 1.0], [0.0, 0.5], [0.1, 1.0])],
        title=text,
        x_label="step",
        y_label="share",
        caption=text,
    )
    page.facts({text: text}, fold=text)
    page.command(text)
    return page


def test_hostile_text_is_inert_everywhere(tmp_path):
    path = full_page(HOSTILE).write(tmp_path / "page.html")
    html = path.read_text(encoding="utf-8")
    assert unsafe(html) == []
    assert Reader(html).balanced
    assert "alert(1)" in Reader(html).text, "the text itself must still be shown"
    assert "default-src 'none'" in html


def test_the_check_for_hostile_text_finds_it():
    assert unsafe(f"<p>{HOSTILE}</p>") == ["script", "img", "onerror", "http://evil/x"]


def test_the_page_needs_nothing_from_elsewhere():
    html = full_page("plain").html()
    addresses = set(re.findall(r"https?://[^\s\"'<]+", html))
    # Names of XML vocabularies, which no browser fetches.
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_same_calls_give_same_bytes_and_ids_are_unique():
    page = full_page("plain")
    page.curves([Curve("b", [0, 1], [2.0, 1.0])], title="b", x_label="x", y_label="y")
    other = full_page("plain")
    other.curves([Curve("b", [0, 1], [2.0, 1.0])], title="b", x_label="x", y_label="y")
    assert page.html() == other.html()
    ids = re.findall(r'\bid="([^"]*)"', page.html())
    assert ids
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]*)', page.html()))
    assert used <= set(ids)


def test_figures_in_a_row_share_a_grid_and_text_ends_it():
    page = Page("t")
    for _ in range(2):
        page.figure(Figure(), title="f")
    page.text("between")
    page.figure(Figure(), title="f")
    assert page.html().count('<div class="figures">') == 2
    assert Reader(page.html()).balanced


def test_cells():
    page = Page("t")
    page.table(
        ["name", "value", "count", "flag"],
        [["a", Interval(-0.5, -1.0, math.nan), 3, True], ["b", None, 12, False], ["c", 1.0, 0, ""]],
        digits=2,
    )
    text = Reader(page.html()).text
    assert "−0.50 [−1.00, –]" in text
    assert "True" in text
    with pytest.raises(ValueError, match="a row needs 2 cells, got 1"):
        page.table(["a", "b"], [["only"]])


def test_curves_with_gaps_and_without_data_are_drawn():
    gaps = Curve("a", [0, 1, 2], [0.1, math.nan, 0.3], [0.0, math.nan, 0.2], [0.2, math.nan, 0.4])
    axes = line_figure([gaps], x_label="step", y_label="nats", reference=0.0).axes[0]
    assert axes.get_ylabel() == "nats"
    assert len(axes.collections) == 1, "the band"
    empty = line_figure([Curve("a", [], [])], x_label="step", y_label="nats").axes[0]
    assert [text.get_text() for text in empty.texts] == ["no data"]
    with pytest.raises(ValueError, match=r"one length, got \[2, 1\]"):
        Curve("a", [0, 1], [0.0])
    with pytest.raises(ValueError, match="both ends"):
        Curve("a", [0], [0.0], low=[0.0])


def test_the_ninth_curve_has_another_dash():
    styles = {Curve("a", [], []).style(place) for place in range(24)}
    assert len(styles) == 24


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    truth, hits, narrow = 0.4, 0, 0
    for _ in range(400):
        scores = rng.binomial(4, truth, size=64) / 4
        interval = mean_interval(scores.tolist())
        hits += interval.low <= truth <= interval.high
        half = (interval.high - interval.low) / 4
        narrow += abs(interval.value - truth) <= half
    assert 0.92 <= hits / 400 <= 0.98
    assert narrow / 400 < 0.9, "an interval of half the width must be found too narrow"


def test_interval_ends():
    assert mean_interval([1.0] * 8).low == pytest.approx(0.025 ** (1 / 8))
    assert mean_interval([1.0] * 8).high == 1.0
    # Nor are equal scores between the bounds known without error.
    missed = 1 - 0.025 ** (1 / 8)
    assert mean_interval([0.5] * 8) == pytest.approx((0.5, 0.5 - missed, 0.5 + missed))
    assert mean_interval([0.5]) == (0.5, 0.0, 1.0)
    with pytest.raises(ValueError, match="at least one score"):
        mean_interval([])


def test_paired_difference_ignores_how_hard_questions_are():
    before = {f"q{i}": i / 10 for i in range(9)}
    after = {name: score + 0.1 + 0.01 * (int(name[1]) % 2) for name, score in before.items()}
    after["other"] = 0.0
    paired = difference_interval(after, before)
    assert paired.value == pytest.approx(0.1, abs=0.01)
    assert paired.high - paired.low < 0.02
    shuffled = dict(zip(before, reversed(list(after.values())[:9]), strict=True))
    unpaired = difference_interval(shuffled, before)
    assert unpaired.high - unpaired.low > 0.3
    assert difference_interval(before, before).text(2) == "0.00 [-0.34, 0.34]"
    with pytest.raises(ValueError, match="common question"):
        difference_interval({"a": 1.0}, {"b": 1.0})


def test_intervals_are_drawn_where_they_lie():
    rows = [("a − b", Interval(0.03, 0.01, 0.05)), ("a − c", Interval(-0.01, -0.04, 0.02))]
    axes = interval_figure(rows, x_label="difference in accuracy", margin=0.02).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a − b", "a − c"]
    drawn = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert (0.01, 0.05) in drawn
    assert (-0.04, 0.02) in drawn
    # The first is on top, and the shaded region reaches to the margin on both sides of 0.
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    shade = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (shade.x0, shade.x1) == (pytest.approx(-0.02), pytest.approx(0.02))
    page = Page("Intervals")
    page.figure(interval_figure(rows, x_label="difference"), title="Differences")
    assert Reader(page.html()).balanced


def test_intervals_need_rows_and_a_place_for_their_margin():
    with pytest.raises(ValueError, match="at least one, got none"):
        interval_figure([], x_label="difference")
    with pytest.raises(ValueError, match="a margin lies about a reference"):
        interval_figure(
            [("a", Interval(0.0, 0.0, 0.0))], x_label="difference", reference=None, margin=0.1
        )


def test_what_needs_matplotlib_is_found_by_name():
    for name in reports._WITH_FIGURES:
        assert getattr(reports, name).__module__.startswith(("pgpo_jax.reports", "matplotlib"))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = reports.nonsense
