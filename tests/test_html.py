"""The course as web pages."""

import pytest

from rslab.errors import InputError
from rslab.lectures import html, lab


def test_the_course_becomes_pages_with_figures_and_an_index(monkeypatch, tmp_path):
    course = tmp_path / "notebooks"
    course.mkdir()
    for name in ("02_randomized_smoothing.ipynb",):
        (course / name).write_bytes((lab.COURSE / name).read_bytes())
    monkeypatch.setattr(lab, "COURSE", course)
    index, page = html.write_html(tmp_path / "html")
    assert '<a href="02_randomized_smoothing.html">Randomized smoothing</a>' in index.read_text()
    text = page.read_text()
    assert text.count("<img") >= 8 and "data:image/png;base64" in text
    assert html.WIDGET not in text  # a slider without a kernel would be a promise


def test_html_needs_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="^out: got"):
        html.write_html(tmp_path / "file")
