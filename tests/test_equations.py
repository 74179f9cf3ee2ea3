"""Which function is which equation? The page docs/equations.md, made from the docstrings.

A docstring names what it implements in one sentence that ends a paragraph of it:

    Source: lecture 14, Theorem 1.1, (3); blog, radius.

A text, a comma, its equations; a semicolon before the next text. Here stands what the texts hold.
`python tests/test_equations.py` writes the page.
"""

import ast
import json
import re
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "equations.md"
COMMAND = "python tests/test_equations.py"
pytestmark = pytest.mark.author


class Equation(NamedTuple):
    number: str  # or a name, where the text has no number
    says: str
    taught: str  # notebook, section
    beside: tuple[str, ...] = ()  # functions of the lectures or of training that do not name it themselves
    alone: bool = False  # proved or checked in the notebook, without a function


# All that the four texts number, and what they display without a number, in their order.
TEXTS = {
    "lecture 14": [
        Equation("(1)", "soft G is the mean of F under noise", "04, section 1"),
        Equation("Theorem 1.1", "the radius within which G keeps its top class", "04, section 5"),
        Equation("(2)", "the two likeliest classes, a and b", "04, section 1"),
        Equation("(3)", "σ/2 (Φ⁻¹(p_a) − Φ⁻¹(p_b))", "04, section 5"),
        Equation("p_a = 1", "an infinite radius; what n votes can show of it", "02, section 6"),
        Equation("section 1.1", "p_a from the mean of k soft votes", "02, section 5"),
        Equation("Lemma 2.1", "L-Lipschitz scores: radius (p_a − p_b) / 2L", "04, section 2"),
        Equation("Lemma 2.2", "the same on the scale of a monotone m", "04, section 2"),
        Equation("Lemma 2.3", "Stein: ∇H from values of h", "03, section 2"),
        Equation("(4)", "the proof of Lemma 2.3: differentiate the density", "03, section 2", alone=True),
        Equation("Lemma 2.4", "H is Lipschitz, with a constant of order 1/σ", "04, section 3"),
        Equation("(5)", "the proof of Lemma 2.4: 0 ≤ h ≤ 1", "04, section 3", alone=True),
        Equation("(6)", "the proof of Lemma 2.4: the mean size of a normal Z", "04, section 3", alone=True),
        Equation("Corollary 2.5", "the linear radius", "04, section 3"),
        Equation("Lemma 2.6", "Φ⁻¹∘H is 1/σ-Lipschitz (printed: σ)", "04, section 5", ("ceiling_figure",)),
        Equation("(7)", "the slope of H along v, by Stein", "04, section 5", alone=True),
        Equation("half-space ℓ", "the h of steepest H at level p", "04, section 4"),
        Equation("exchange argument", "no other h is as steep as ℓ", "04, section 4", alone=True),
        Equation("scaling", "any σ from σ = 1", "04, section 5", ("scaling",)),
        Equation("attempt 1", "Gaussian augmentation", "05, section 2"),
        Equation("(8)", "E[−log F(x + δ)_y]", "05, section 2"),
        Equation("attempt 2", "train G directly", "05, section 3"),
        Equation("(9)", "−log E[F(x + δ)_y]", "05, section 3"),
        Equation("(10)", "the gradient of (9) in the weights", "05, section 4"),
        Equation("Stein after (10)", "a gradient without derivatives of F, in x only", "03, section 6"),
        Equation("plug-in estimator", "the mean of m samples inside the log", "05, section 4"),
        Equation("attempt 3", "adversarial training of G", "06, section 8"),
        Equation("pre-training", "start from the weights of another run", "07, section 7"),
        Equation("semi-supervision", "more images, labelled by a model", "07, section 7", ("pseudo_labels",)),
        Equation("Table 1", "certified accuracy on ImageNet", "07, section 8", ("table_rows",)),
        Equation("Table 2", "certified accuracy on CIFAR-10", "07, section 3", ("table_rows",)),
    ],
    "blog": [
        Equation("adversary", "the x̂ of largest loss within ε", "01, section 1"),
        Equation("minimax", "the weights of least worst-case loss", "01, section 5"),
        Equation("PGD", "climb, and project onto the ball", "01, section 3"),
        Equation("adversarial training", "take the step of θ at x̂", "01, section 6"),
        Equation("empirical robust accuracy", "share that is right under an attack", "01, section 1"),
        Equation("provable robust accuracy", "share that is right and certified", "02, section 7"),
        Equation("smoothed classifier", "g(x): the likeliest answer of f under noise", "02, section 2"),
        Equation("prediction", "g by a vote of samples", "02, section 4"),
        Equation("confidence intervals", "bounds on p_A and p_B from votes", "02, section 5"),
        Equation("radius", "σ/2 (Φ⁻¹(p_A) − Φ⁻¹(p_B))", "04, section 1"),
        Equation("training", "cross-entropy under Gaussian noise", "05, section 2"),
        Equation("combination (1)", "a robust f, and noise", "06, section 8"),
        Equation("combination (2)", "attack f, then add noise", "06, section 8"),
        Equation("combination (3)", "add noise, then attack f", "06, section 8"),
        Equation("combination (4)", "attack G and train there", "06, section 8"),
        Equation("soft classifier G", "the mean of F under noise", "04, section 1"),
        Equation("SmoothAdv objective", "−log of the mean, to be maximised", "06, section 1"),
        Equation("plug-in gradient", "∇J with m samples in place of E", "06, section 3"),
        Equation("naive objective", "the mean of −log", "06, section 1"),
        Equation("update of θ", "a step at x̂ on −log of the mean", "06, section 8"),
        Equation("hyperparameters", "ε, m, σ, T, η and the attack", "07, section 5"),
        Equation("DDN", "the nearest adversarial example", "06, section 5"),
        Equation("upper envelopes", "the best model at each radius", "07, section 2"),
    ],
    "robust-training blog": [
        Equation("population loss", "the mean of the worst loss around x", "01, section 5"),
        Equation("min–max", "its empirical version, minimised", "01, section 5"),
        Equation("PGD", "a step along the gradient, projected", "01, section 3"),
        Equation("projection", "Π: the nearest point of the ball", "01, section 3"),
        Equation("PGD for ℓ∞", "the same along the gradient's sign", "01, section 3"),
        Equation("Danskin's theorem", "∇ of the maximum is ∇ at the maximiser", "01, section 5", ("danskin_figure",)),
        Equation("FGSM", "one step", "01, section 2"),
        Equation("loss along a line", "from x to the ends of FGSM and of PGD", "01, section 6", ("losses_along",)),
        Equation("random starts", "PGD from many points of the ball", "01, section 4", ("final_losses",)),
        Equation("plane of two maxima", "the loss at x + λ₁(a₁ − x) + λ₂(a₂ − x)", "01, section 4", ("loss_plane",)),
        Equation("transfer attacks", "made on another model", "01, section 7"),
        Equation("Carlini–Wagner loss", "the margin in place of the cross-entropy", "01, section 7"),
    ],
    "slides": [
        Equation("average loss", "what training minimises", "01, section 5"),
        Equation("adversarial example", "the δ of largest loss", "01, section 2"),
        Equation("min–max", "the sum of the worst losses, minimised", "01, section 5"),
        Equation("Danskin's theorem", "∇ of the maximum is ∇ at δ*", "01, section 5", ("danskin_figure",)),
        Equation("FGSM", "ε times the sign of the gradient", "01, section 2"),
        Equation("training algorithm", "an attack on each batch, then a step of θ", "01, section 6"),
        Equation("mixed updates", "clean and attacked images together", "01, section 6"),
        Equation("random perturbations", "x + η, η ~ N(0, σ²I)", "02, section 1"),
        Equation("smoothed classifier", "g(x): the likeliest answer of f under noise", "02, section 2"),
        Equation("Monte Carlo", "g by a vote of samples, in four steps", "02, section 3"),
        Equation("abstention", "when are n_A and n_B too close?", "02, section 4"),
        Equation("guarantee", "radius σΦ⁻¹(p)", "02, section 5"),
        Equation("worst-case classifier", "a half-space across δ", "04, section 6", ("worst_case",)),
        Equation("worst-case probability", "Φ(Φ⁻¹(p_A) − ‖δ‖/σ)", "04, section 6"),
        Equation("guarantee from two classes", "σ/2 (Φ⁻¹(p_1) − Φ⁻¹(p_2))", "04, section 1"),
        Equation("CERTIFY", "a class and a radius, or ABSTAIN", "02, section 5"),
        Equation("SAMPLEUNDERNOISE", "votes a class", "02, section 3"),
        Equation("LOWERCONFBOUND", "Clopper–Pearson's lower bound", "02, section 5"),
        Equation("Proposition 2", "CERTIFY is right with probability 1 − α", "02, section 5"),
        Equation("certified accuracy", "against the radius", "02, section 7"),
    ],
}
# Of the papers what our docstrings name.
PAPERS = {
    "Carlini and Wagner 2017": [Equation("f₆", "the margin of the logits", "01, section 7")],
    "Cohen et al. 2019": [
        Equation("(1)", "g(x): the likeliest answer of f under noise", "02, section 2"),
        Equation("Theorem 1", "the radius of p_A and p_B", "04, section 5"),
        Equation("PREDICT", "g(x), or ABSTAIN", "02, section 4"),
        Equation("Proposition 1", "PREDICT is wrong with probability α at most", "02, section 4"),
        Equation("CERTIFY", "a class and a radius, or ABSTAIN", "02, section 5"),
        Equation("SAMPLEUNDERNOISE", "votes a class", "02, section 3"),
        Equation("LOWERCONFBOUND", "Clopper–Pearson's lower bound", "02, section 5"),
        Equation("Proposition 2", "CERTIFY is right with probability 1 − α", "02, section 5"),
        Equation("section 3.3", "Gaussian augmentation", "05, section 2"),
        Equation("appendix G.3", "the naive attack", "06, section 1"),
    ],
    "Goodfellow et al. 2015": [Equation("FGSM", "ε times the sign of the gradient", "01, section 2")],
    "Jeong and Shin 2020": [Equation("(9)", "consistency regularisation", "08, section 5")],
    "Jeong et al. 2021": [Equation("SmoothMix", "predictions fade towards the attacked image", "08, section 5")],
    "Kim and DeMets 1987": [Equation("power family", "α spent as a power of the votes", "08, section 2")],
    "Lan and DeMets 1983": [Equation("α-spending", "how much error each look may cost", "08, section 2")],
    "Madry et al. 2018": [
        Equation("min–max", "adversarial training", "01, section 5"),
        Equation("PGD", "projected gradient ascent", "01, section 3"),
    ],
    "Maurer and Pontil 2009": [Equation("Theorem 4", "the empirical Bernstein bound", "05, section 5")],
    "Rony et al. 2019": [Equation("DDN", "the nearest adversarial example", "06, section 5")],
    "Salman et al. 2020": [
        Equation("denoising objectives", "a denoiser that gives the image back, or the answer", "08, section 6")
    ],
    "Salman et al. 2019": [Equation("SmoothAdv", "attack G, and train there", "06, section 1")],
    "Voráček and Hein 2023": [Equation("noise on a grid", "certificates for floating point", "08, section 7")],
    "Wald 1945": [Equation("expected sample size", "what no sequential test can undercut", "08, section 2")],
    "Walker 1977": [Equation("alias method", "draws from whole-number weights", "08, section 7")],
    "Zhai et al. 2020": [Equation("ACR", "the average certified radius", "07, section 6")],
}
ALL = TEXTS | PAPERS
KEYS = [(text, equation) for text, equations in ALL.items() for equation in equations]


@cache
def definitions() -> dict[str, ast.AST]:
    """The functions, classes and methods of the package by their place: "smoothing/bounds.py: certified_radius"."""
    found = {}
    for file in sorted((ROOT / "rslab").rglob("*.py")):
        for name, node in _inside(ast.parse(file.read_text(encoding="utf-8")), ""):
            found[f"{file.relative_to(ROOT / 'rslab').as_posix()}: {name}"] = node
    return found


def _inside(tree, above):
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield above + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _inside(node, f"{node.name}.")


def sources(docstring: str) -> list[tuple[str, str]]:
    """(text, equation) of each that a docstring names as its source."""
    named = []
    for paragraph in re.split(r"\n\s*\n", docstring):
        if sentence := re.search(r"\bSource: (.+)\.$", " ".join(paragraph.split())):
            for part in sentence[1].split("; "):
                text, *numbers = part.split(", ")
                named += [(text, number) for number in numbers or [""]]
    return named


@cache
def named() -> dict[tuple[str, str], list[str]]:
    """The places that name each (text, equation)."""
    places: dict[tuple[str, str], list[str]] = {}
    for place, node in definitions().items():
        for source in sources(ast.get_docstring(node) or ""):
            places.setdefault(source, []).append(place)
    return places


def functions(text: str, equation: Equation) -> list[str]:
    """The places that implement or draw an equation; [] where there are none."""
    beside = [place for place in definitions() if place.split(": ")[1] in equation.beside]
    return list(dict.fromkeys(named().get((text, equation.number), []) + beside))


def page() -> str:
    """docs/equations.md."""
    lines = [
        "# Which function is which equation?",
        "",
        "Every equation, algorithm, theorem and lemma of the four texts behind the course, then what the package takes",
        "from papers: the function under `rslab/` that computes it, and the notebook that teaches it. The docstrings",
        f"say it; `{COMMAND}` collects it here, and a test fails where a source is missing.",
        "",
        "| equation | what it says | function | notebook |",
        "|---|---|---|---|",
    ]
    for text, equation in KEYS:
        nowhere = "in the notebook only" if equation.alone else "**missing**"
        where = ", ".join(f"`{place}`" for place in functions(text, equation)) or nowhere
        cells = (f"{text}, {equation.number}", equation.says, where, equation.taught)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def test_a_docstring_says_its_source_in_one_form():
    assert sources("P(A). Source: slides, step 5.") == [("slides", "step 5")]
    assert sources("Σ.\n\nSource: lecture 14, (8), (9); Cohen et al. 2019,\n    (1).\n\n>>> 1\n1") == [
        ("lecture 14", "(8)"),
        ("lecture 14", "(9)"),
        ("Cohen et al. 2019", "(1)"),
    ]
    assert sources("`source`: another model. Source of all: nothing.") == []
    for place, node in definitions().items():
        docstring = ast.get_docstring(node) or ""
        assert docstring.count("Source: ") == bool(sources(docstring)), f"{place}: a Source that does not end with '.'"


def test_every_equation_of_the_texts_has_its_function():
    missing = [f"{text}, {e.number}" for text, e in KEYS if not e.alone and not functions(text, e)]
    assert not missing, f"no docstring has as its Source: {'; '.join(missing)}"
    found = [f"{text}, {e.number}" for text, e in KEYS if e.alone and functions(text, e)]
    assert not found, f"said to be in the notebook alone, but a docstring names it: {'; '.join(found)}"


def test_no_docstring_names_an_equation_that_the_list_lacks():
    known = {(text, equation.number) for text, equation in KEYS}
    for source, places in named().items():
        assert source in known, f"{places}: Source {source}, expected one of the list in {Path(__file__).name}"
    assert len(known) == len(KEYS)


def test_every_file_function_and_section_of_the_page_exists():
    names = [place.split(": ")[1] for place in definitions()]
    for name in chain.from_iterable(equation.beside for _, equation in KEYS):
        assert names.count(name) == 1, f"{name}: {names.count(name)} functions of the package have this name"
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [line.strip("| ").split(" | ") for line in lines[1:]]
    assert len(rows) == len(KEYS)
    for _, _, where, taught in rows:
        for file, name in re.findall(r"`([\w/]+\.py): ([\w.]+)`", where):
            assert (ROOT / "rslab" / file).is_file() and f"{file}: {name}" in definitions(), (file, name)
        number, section = re.fullmatch(r"(\d\d), section (\d+)", taught).groups()
        (notebook,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        assert any(f"## {section} · " in "".join(cell["source"]) for cell in cells), (notebook.name, section)


def test_the_page_is_what_the_docstrings_say():
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    assert written == page(), f"docs/equations.md is not what the docstrings say; `{COMMAND}` writes it."


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
