"""Predict first: a question with a place for an answer, and the true one after it.

    prediction.number("Which share of 100 noisy copies is still a 3?", answer=lambda: votes[3] / 100, tolerance=0.1)
    prediction.choice("Is R at σ = 1 larger than at 0.5?", options=["larger", "smaller"], answer="smaller", why="…")
    prediction.curve("How does R grow with p_A?", p, answer=lambda: norm.ppf(p), xlabel="p_A", ylabel="R")

Nothing waits for an answer: "Run All" goes on. Until it comes, neither the page nor the saved
notebook holds it. Who is in a hurry skips.
"""

import html
import math
import re
from collections.abc import Callable, Sequence

import ipywidgets as widgets
import numpy as np

from rslab.errors import InputError
from rslab.lectures.explorer import Explorer
from rslab.lectures.picture import BOX, Guard
from rslab.lectures.style import BLUE, VERMILION, new_figure, styled

_WIDE = {"max_width": "100%"}


class Prediction(widgets.VBox):
    """A question, an input, "Answer" and "Skip"; then "You said …; it is …", and the explanation, unfolded.

    `answer` and `why` are values, or functions without arguments that are called when the
    answer is given: so the number comes from the experiment. An `explorer` is shown below the
    question, locked until the question is answered or skipped. Afterwards: `said` (None if it
    was skipped), `right` (None likewise), `asking` is False.
    """

    def __init__(self, question: str, field: widgets.Widget, answer, why="", explorer: Explorer | None = None):
        self._question, self._answer, self._why, self._explorer = question, answer, why, explorer
        self.asking = True
        self.said = None
        self.right: bool | None = None
        self.field = field
        self.button = widgets.Button(description="Answer", button_style="primary", layout={"width": "auto"})
        self.skip_button = widgets.Button(
            description="Skip", tooltip="Go on without a prediction", layout={"width": "auto"}
        )
        self.skip_button.style.button_color = "transparent"
        self.button.on_click(lambda _: self.give())
        self.skip_button.on_click(lambda _: self.skip())
        self.verdict = widgets.HTMLMath(layout=_WIDE)
        asked = widgets.HTMLMath(f"<b>Predict first.</b> {question}", layout=_WIDE)
        below = [explorer.lock()] if explorer is not None else []
        self._row = widgets.HBox(self._fields(), layout={**_WIDE, "flex_flow": "row wrap", "align_items": "center"})
        super().__init__([asked, self._row, self.verdict, Guard(), *below])
        self.add_class(BOX)

    def _fields(self) -> list[widgets.Widget]:
        return [self.field, self.button, self.skip_button]

    def give(self, value=None) -> "Prediction":
        """Answer with `value`, or with what stands in the field, as a hand would."""
        if not self.asking:
            return self
        if value is not None:
            self._fill(value)
        try:
            said = self._read()
        except InputError as problem:
            self.verdict.value = html.escape(str(problem))
            return self
        if (truth := self._try_truth()) is None:
            return self
        self.said, self.right = said, self._agrees(said, truth)
        verdict = "<b>Right</b>" if self.right else "<b>Not right</b>"
        self._close(
            f"You said {self._shown(said)}; it is {self._shown(truth)}. {verdict}{self._margin(said, truth)}.", truth
        )
        self.verdict.value += self._fold(self._explanation(), "Why?", unfolded=True)
        return self

    def skip(self) -> "Prediction":
        """Go on without an answer: the true one is folded away, the explorer is released."""
        if self.asking and (truth := self._try_truth()) is not None:
            self._close("Skipped.", truth)
            told = f"It is {self._shown(truth)}. {self._explanation()}"
            self.verdict.value += self._fold(told, "The answer", unfolded=False)
        return self

    def _try_truth(self):
        """The true answer; None, and a sentence on the page, where it needs a cell that was not run."""
        try:
            return self._truth()
        except Exception as problem:  # whatever the lecture's function raised: a callback has no other place to say it
            told = html.escape(f"{type(problem).__name__}: {problem}")
            self.verdict.value = f"The true answer could not be computed; run the cells above, then try again ({told})."
            return None

    def _close(self, text: str, truth) -> None:
        self.asking = False
        for widget in (self.field, self.button, self.skip_button):
            widget.disabled = True
        self._row.children = [self.field]
        self.verdict.value = text
        if self._explorer is not None:
            self._explorer.lock(False)

    def _explanation(self) -> str:
        return str(self._why() if callable(self._why) else self._why)

    def _truth(self):
        return self._answer() if callable(self._answer) else self._answer

    @staticmethod
    def _fold(text: str, summary: str, unfolded: bool) -> str:
        return f"<details{' open' * unfolded}><summary>{summary}</summary>{text}</details>" if text.strip() else ""

    # What a kind of question defines.

    def _fill(self, value) -> None:
        self.field.value = value

    def _read(self):
        """What stands in the field; `InputError` if that is no answer."""
        raise NotImplementedError

    def _agrees(self, said, truth) -> bool:
        raise NotImplementedError

    def _shown(self, value) -> str:
        raise NotImplementedError

    def _margin(self, said, truth) -> str:
        return ""

    def _repr_mimebundle_(self, **kwargs):
        # The question alone: what a notebook saves gives nothing away, although it was answered once.
        bundle = super()._repr_mimebundle_(**kwargs)
        question = html.unescape(re.sub("<[^>]+>", "", self._question))
        bundle = {**bundle, "text/plain": f"Predict first. {question}"}
        if self._explorer is None or not self.asking:
            return bundle, {}
        shown, metadata = self._explorer._repr_mimebundle_()
        return {**bundle, "image/png": shown["image/png"]}, metadata


class _Number(Prediction):
    def __init__(self, question, answer, unit, tolerance, **options):
        self._unit, self._tolerance = f" {unit}" if unit else "", tolerance
        field = widgets.Text(placeholder="a number", layout={"width": "130px"})
        field.on_msg(lambda _, message, buffers: message.get("event") == "submit" and self.give())  # the Enter key
        self._label = widgets.HTML(unit)
        super().__init__(question, field, answer, **options)

    def _fields(self):
        return [self.field, *([self._label] if self._unit else []), self.button, self.skip_button]

    def _fill(self, value):
        self.field.value = str(value)

    def _read(self):
        """`0.25`, `0,25`, `10,000`, `1e-3`, `1/4` and, where the unit is another one, `25 %` are numbers."""
        text = self.field.value.strip().replace("−", "-")
        thousands = re.match(r"-?[1-9]\d{0,2}(,\d{3})+(?!\d)", text)
        text = text.replace(",", "" if thousands else ".")
        if self._unit:
            text = text.removesuffix(self._unit.strip()).strip()
        scale = 100 if text.endswith("%") else 1
        try:
            above, _, below = text.removesuffix("%").partition("/")
            number = float(above) / (float(below) if below else 1) / scale
        except (ValueError, ZeroDivisionError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f'"{self.field.value}" is no number; 0.25, 1e-3 or 25 % are.')
        return number

    def _agrees(self, said, truth):
        return bool(abs(said - truth) <= self._tolerance * (1 + 1e-9))

    def _shown(self, value):
        return f"{value:.4g}{self._unit}"

    def _margin(self, said, truth):
        off = f"you are off by {abs(said - truth):.2g}{self._unit}"
        return f": {off}, and {self._tolerance:g}{self._unit} is allowed"


class _Choice(Prediction):
    def __init__(self, question, options, answer, **more):
        self._options = list(options)
        field = widgets.RadioButtons(options=self._options, value=None, layout={"width": "auto", "max_width": "100%"})
        super().__init__(question, field, answer, **more)

    def _read(self):
        if self.field.value is None:
            raise InputError("Choose one of the answers, or skip.")
        return self.field.value

    def _truth(self):
        truth = super()._truth()
        if truth not in self._options:
            raise InputError(f"answer: got {truth!r}, expected one of the options.")
        return truth

    def _agrees(self, said, truth):
        return said == truth

    def _shown(self, value):
        return f"“{value}”"


class _Sketch(Explorer):
    """Axes on which a curve is drawn by hand, left to right or back; the true one appears after the answer."""

    @styled
    def __init__(self, x: np.ndarray, ylim: tuple[float, float], xlabel: str, ylabel: str):
        self._x, self.drawn = x, np.full(len(x), np.nan)
        self._last: tuple[float, float] | None = None
        figure, axes = new_figure(width=6.4, height=3.4)
        self._mine = axes.plot(x, self.drawn, color=BLUE, linewidth=3, label="your prediction")[0]
        self._true = axes.plot(x, self.drawn, color=VERMILION, linestyle="--", label="what it is")[0]
        axes.set(xlim=(x[0], x[-1]), ylim=ylim, xlabel=xlabel, ylabel=ylabel)
        axes.legend(loc="upper left")
        super().__init__(figure, [], [self._mine, self._true, axes.get_legend()], drag=axes)

    def dragged(self, x, y):
        near = int(np.abs(self._x - x).argmin())
        here = float(self._x[near])
        # Places that the hand passed between two messages lie on the line between them; a new stroke begins anew.
        start = self._last if self._last and abs(self._last[0] - here) < 0.25 * np.ptp(self._x) else (here, y)
        (a, b), (c, d) = sorted((start, (here, y)))
        passed = (self._x >= a) & (self._x <= c)
        self.drawn[passed] = np.interp(self._x[passed], [a, c], [b, d]) if c > a else y
        self._last = here, y

    def reset(self):
        self.drawn[:] = np.nan
        self._last = None
        with self._one_redraw():
            return self

    def reveal(self, y: np.ndarray) -> None:
        with self._one_redraw():
            self._true.set_ydata(y)

    def update(self):
        self._mine.set_ydata(self.drawn)
        share = np.isfinite(self.drawn).mean()
        return f"drawn over {share:.0%} of the axis" if share else "draw with the mouse or a finger, from left to right"


class _Curve(Prediction):
    def __init__(self, question, x, answer, ylim, xlabel, ylabel, tolerance, **options):
        self._x, self._height = np.asarray(x, float), ylim[1] - ylim[0]
        self._tolerance = tolerance
        super().__init__(question, _Sketch(self._x, ylim, xlabel, ylabel), answer, **options)
        self._row.layout.flex_flow = "column"
        self._row.layout.align_items = "flex-start"
        self._row.children = [self.field, widgets.HBox([self.button, self.skip_button])]

    def _fill(self, value):
        for x, y in zip(self._x, np.asarray(value, float), strict=True):
            self.field.drag(x, y)

    def _read(self):
        if np.isfinite(self.field.drawn).mean() < 0.5:
            raise InputError("Draw the curve over at least half of the axis, or skip.")
        return self.field.drawn

    def _distance(self, said, truth) -> float:
        return float(np.nanmean(np.abs(said - truth)))

    def _truth(self):
        return np.asarray(super()._truth(), float)

    def _close(self, text, truth):
        super()._close(text, truth)
        self.field.lock()
        self.field.reveal(truth)

    def _agrees(self, said, truth):
        return self._distance(said, truth) <= self._tolerance

    def _shown(self, value):
        return "the blue curve" if value is self.field.drawn else "the dashed one"

    def _margin(self, said, truth):
        off = self._distance(said, truth)
        return f": on average you are off by {off:.2g}, and {self._tolerance:g} is allowed"


def number(
    question: str,
    *,
    answer: float | Callable[[], float],
    tolerance: float,
    unit: str = "",
    why: str | Callable[[], str] = "",
    explorer: Explorer | None = None,
) -> Prediction:
    """Ask for a number; right is what differs from `answer` by at most `tolerance` (both in `unit`s)."""
    if not (isinstance(tolerance, int | float) and tolerance >= 0):
        raise InputError(f"tolerance: got {tolerance}, expected 0 or more.")
    return _Number(question, answer, unit, tolerance, why=why, explorer=explorer)


def choice(
    question: str,
    *,
    options: Sequence[str],
    answer: str | Callable[[], str],
    why: str | Callable[[], str] = "",
    explorer: Explorer | None = None,
) -> Prediction:
    """Ask for one of the `options`; none is chosen at the start."""
    if len(set(options)) != len(options) or len(options) < 2:
        raise InputError(f"options: got {list(options)}, expected two or more different ones.")
    if not callable(answer) and answer not in options:
        raise InputError(f"answer: got {answer!r}, expected one of the options.")
    return _Choice(question, options, answer, why=why, explorer=explorer)


def curve(
    question: str,
    x: Sequence[float],
    *,
    answer: Sequence[float] | Callable[[], Sequence[float]],
    ylim: tuple[float, float],
    tolerance: float,
    xlabel: str,
    ylabel: str,
    why: str | Callable[[], str] = "",
    explorer: Explorer | None = None,
) -> Prediction:
    """Ask for a curve over the increasing places `x`, drawn on empty axes.

    Right is what differs from `answer`, the heights at `x`, by at most `tolerance` on average.
    """
    places = np.asarray(x, float)
    if places.ndim != 1 or len(places) < 2 or not (np.diff(places) > 0).all():
        raise InputError(f"x: got {x}, expected two or more increasing numbers.")
    return _Curve(question, places, answer, ylim, xlabel, ylabel, tolerance, why=why, explorer=explorer)
