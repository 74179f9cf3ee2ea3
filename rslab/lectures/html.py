"""The course as web pages, for readers without Python: `python -m rslab.lectures.html FOLDER` (`make html`).

The pages hold what is saved in the notebooks: text, formulas, figures, and the
picture of each explorer as it was last, without its sliders. A browser fetches the
script that sets the formulas from the web. On paper every fold is open.
"""

import html
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rslab.errors import InputError, WorkError
from rslab.lectures.lab import course_folder

WIDGET = "application/vnd.jupyter.widget-view+json"

# Paper has no folds to open: the steps of the proofs and the hints are printed, and a figure stays on one sheet.
FOR_PRINT = """<style media="print">
img { max-width: 100%; height: auto; break-inside: avoid; }
h1, h2, h3, summary { break-after: avoid; }
pre { white-space: pre-wrap; }
</style>
<script>
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details:not([open])")) { fold.open = fold.forPrint = true; }
});
addEventListener("afterprint", () => {
  for (const fold of document.querySelectorAll("details")) { if (fold.forPrint) { fold.open = fold.forPrint = false; } }
});
</script>
"""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Randomized Smoothing Lab</title>
<style>body {{ font: 18px/1.6 sans-serif; max-width: 42em; margin: 3em auto; padding: 0 1em; }}</style>
<h1>Randomized Smoothing Lab</h1>
<p>The course as it was last run. To move the sliders and do the exercises, run it: see the README.</p>
<ol start="0">
{items}
</ol>
</html>
"""


def write_html(out: Path) -> list[Path]:
    """Convert every notebook of the course into `out`, with an index.html; returns the pages written."""
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"out: got {out}, which is a file, expected a folder.")
    notebooks = sorted(course_folder().glob("*.ipynb"))
    with tempfile.TemporaryDirectory() as folder:
        copies = [_without_widgets(path, Path(folder)) for path in notebooks]
        command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", "--output-dir", str(out), *copies]
        result = subprocess.run(
            [str(part) for part in command], capture_output=True, encoding="utf-8", errors="replace"
        )
    if result.returncode:
        raise WorkError(f"nbconvert stopped: {result.stderr.strip().splitlines()[-1]}")
    pages = [out / f"{path.stem}.html" for path in notebooks]
    for page in pages:
        before, end, after = page.read_text(encoding="utf-8").partition("</head>")
        page.write_text(f"{before}{FOR_PRINT}{end}{after}", encoding="utf-8")
    items = [
        f'<li value="{int(path.stem[:2])}"><a href="{path.stem}.html">{html.escape(title_of(path))}</a></li>'
        for path in notebooks
    ]
    (out / "index.html").write_text(PAGE.format(items="\n".join(items)), encoding="utf-8")
    return [out / "index.html", *pages]


def _without_widgets(path: Path, folder: Path) -> Path:
    """A copy in which an explorer is its saved picture: without a kernel there is nothing to slide."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    copy = folder / path.name
    copy.write_text(json.dumps(notebook), encoding="utf-8")
    return copy


def title_of(path: Path) -> str:
    """The first heading of a notebook, without its number: "Randomized smoothing"."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    lines = "".join(notebook["cells"][0]["source"]).splitlines()
    heading = next((line for line in lines if line.startswith("# ")), f"# {path.stem}")
    return heading.lstrip("# 0123456789·.").strip()


if __name__ == "__main__":
    print("\n".join(map(str, write_html(Path(sys.argv[1] if len(sys.argv) > 1 else "build/html")))))
