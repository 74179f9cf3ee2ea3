"""Notebook 08: looking early, the float32 counterexample, figures and what the explorer computes."""

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import at, heights, line, panels, picture, xy
from explorers import explorer
from scipy.stats import binom, norm, sem
from scipy.stats import t as student

from rslab.experiments.recipes import RECIPES, read_recipe
from rslab.lectures.lecture08 import breakit, explorers, figures
from rslab.report.tables import average_certified_radius, certified_accuracy
from rslab.smoothing.sequential import SequentialPlan, looks
from rslab.store.logs import read_log
from rslab.store.run_folder import RESULTS

# -- figures ----------------------------------------------------------------------------------


def test_the_paths_end_where_the_exact_boundaries_say():
    plan = SequentialPlan(0.5, (0.5,), 2000, 0.001)
    (axes,) = panels(figures.paths_figure(plan, (0.99, 0.7)))
    (miss,) = set(line(axes, "miss rate")[1])
    assert miss == pytest.approx(norm.sf(0.5 / 0.5), rel=1e-6)  # 1 − Φ(r/σ)
    for axis, label in (("passes", "passes on or below"), ("given up", "given up on or above")):
        votes, share = line(axes, label)
        counts = share * votes
        assert counts == pytest.approx(counts.round()), axis
    votes, share = line(axes, "passes")
    assert (share < miss).all() and binom.cdf(round(share[-1] * votes[-1]), votes[-1], miss) < plan.alpha
    last, above = line(axes, "given up")
    assert (np.interp(votes, last, above) >= share - 1e-9).all()
    sure, unsure = (drawn for drawn in axes.lines if drawn.get_marker() == "o")
    (*_, votes), (*_, misses) = xy(sure)
    assert misses <= at(axes, "passes", votes) + 1e-9
    (*_, votes), (*_, misses) = xy(unsure)
    assert misses >= at(axes, "given up", votes) - 1e-9


def test_peeking_is_drawn_as_a_simulation_finds_it():
    miss, alpha, taken = 0.16, 0.01, looks(1000)
    (axes,) = panels(figures.peeking_figure(miss, taken, alpha))
    runs = np.random.default_rng(0).binomial(np.diff(taken, prepend=0), miss, (100_000, len(taken))).cumsum(1)
    for label, limits in figures.rules(miss, taken, alpha).items():
        votes, drawn = line(axes, label)
        assert votes.tolist() == list(taken)
        passed = np.logical_or.accumulate(runs <= np.array(limits), axis=1).mean(0)
        assert drawn == pytest.approx(passed, abs=5 * (0.05 / 100_000) ** 0.5)
    lower = [binom.ppf(alpha, n, miss) for n in taken]  # the largest count of probability α at most lies near
    at_every_look = figures.rules(miss, taken, alpha)["the bound at level α, at every look"]
    assert all(low - 1 <= limit <= low for low, limit in zip(lower, at_every_look, strict=True))


def test_votes_methods_and_precision_show_the_numbers_given():
    row = {"votes": 2000.0, "floor": 1000.0, "cells": 10, "cells_fixed": 10}
    (axes,) = panels(figures.votes_figure({"gaussian-0.25": row, "smoothadv-0.25": row | {"votes": 500.0}}, 100_000))
    assert heights(axes).tolist() == [2000, 500] and set(line(axes, "fixed")[1]) == {100_000}
    assert [text.get_text() for text in axes.texts] == ["÷ 50.0", "÷ 200.0"]
    floors = [xy(drawn)[1].tolist() for drawn in axes.lines if len(xy(drawn)[0]) == 2 and drawn.get_linestyle() == "-"]
    assert floors == [[1000, 1000]] * 2
    costs, curves = panels(figures.methods_figure())
    drawn = {(float(xy(dot)[0][0]), float(xy(dot)[1][0])) for dot in costs.lines}
    assert drawn == {(seconds, acr) for _, acr, seconds, _ in figures.METHODS}
    assert {text.get_text(): text.xy for text in costs.texts} == {n: (s, acr) for n, acr, s, _ in figures.METHODS}
    for name, acr, _, curve in figures.METHODS:
        assert line(curves, name)[1].tolist() == list(curve)
        area = np.trapezoid(curve, np.arange(8) / 4) / 100  # up to 1.75: what lies beyond is not in the table
        assert area < acr < area + 0.2 * curve[-1] / 100 + 0.01, name
    (axes,) = panels(figures.precision_figure([(9, 0.1, 0.4), (8, 0.2, 0.6)]))
    assert [bar.get_width() for bar in axes.patches] == [0.4, 0.6]
    assert line(axes, "an image of class 1")[0].tolist() == [0.1, 0.2]


def test_denoised_curves_are_the_certified_accuracy_of_the_logs_and_the_band_is_of_the_seeds():
    def log(radii):
        return pd.DataFrame({"idx": range(len(radii)), "correct": 1, "radius": radii})

    runs = {label: [log([0.1, 0.2, 0.3]), log([0.1, 0.2, 0.7])] for label in figures.DENOISED_STYLES}
    figure = figures.denoised_figure({0.25: runs, 0.5: runs})
    for axes in panels(figure):
        radii, drawn = line(axes, "Gaussian training")
        assert drawn == pytest.approx(
            (certified_accuracy(runs["SmoothAdv"][0], radii) + certified_accuracy(runs["SmoothAdv"][1], radii)) / 2
        )
        assert len(axes.lines) == len(axes.collections) == 5
    assert "At σ = 0.25 and radius 0.25, in percent: standard alone 33" in figure.alt


def test_published_denoisers_are_drawn_where_a_number_was_read():
    table = figures.published_denoisers()
    assert ((table >= 0) & (table <= 100) | table.isna()).all(axis=None)
    assert table.loc[("ImageNet", "SmoothAdv, 2019")].dropna().to_dict() == {0.5: 56, 1.0: 43, 1.5: 37, 2.0: 27}
    assert table.loc[("CIFAR-10", "SmoothAdv, 2019"), 0.25] == 73  # lecture 14's table
    for axes, data in zip(panels(figures.published_denoisers_figure()), figures.PUBLISHED_DENOISERS, strict=True):
        assert len(axes.lines) == 6
        for name, row in table.loc[data].iterrows():
            radii, drawn = line(axes, name)
            assert row.dropna().to_dict() == dict(zip(radii, drawn, strict=True))


def test_denoisers_are_shown_image_by_image():
    rows = {"clean": torch.zeros(3, 1, 8, 8), "noisy": torch.ones(3, 1, 8, 8)}
    axes = panels(figures.denoisers_figure(rows, ("1", "2", "3")))
    assert [panel.get_title() for panel in axes] == ["1", "2", "3", "", "", ""]
    assert [float(picture(panel).mean()) for panel in axes] == [0, 0, 0, 1, 1, 1]
    assert [panel.get_ylabel() for panel in axes] == ["clean", "", "", "noisy", "", ""]


def test_equal_work_is_equal_and_drawn_from_the_shipped_logs():
    runs = read_recipe(RECIPES / "equal-work.toml")
    assert {run.train.passes * run.train.epochs for run in runs} == {840}
    curves, radii = panels(figures.equal_work_figure())
    table = figures.equal_work_table()
    for name, label in figures.EQUAL_WORK.items():
        logs = [read_log(RESULTS / "equal-work" / f"{name}-{seed}" / "certify.tsv") for seed in range(3)]
        acr = [average_certified_radius(log) for log in logs]
        interval = student.interval(0.95, 2, np.mean(acr), sem(acr))
        mean, half = table.loc[label, ["ACR", "± (seeds, 95 %)"]]
        assert (mean - half, mean + half) == pytest.approx(interval)
        assert at(curves, label, 0.5) == pytest.approx(table.loc[label, "r = 0.5"], abs=2)
        assert f"{label} {mean:.3f}" in radii.figure.alt


def test_the_linf_ball_inside_is_the_cap_over_the_root_of_d():
    alpha, n = 0.001, 100_000
    (axes,) = panels(figures.norms_figure(alpha, n))
    for sigma in (0.25, 0.5, 1.0):
        d, drawn = line(axes, f"σ = {sigma:g}")
        assert drawn == pytest.approx(255 * sigma * norm.ppf(alpha ** (1 / n)) / d**0.5, rel=1e-6)
    assert set(line(axes, "the customary")[1]) == {8}


def test_peeking_spends_many_times_alpha_and_exact_spending_all_but_no_more():
    alpha, taken = 0.001, looks(10_000)
    total = {
        name: figures.passing(0.16, taken, limits)[-1] for name, limits in figures.rules(0.16, taken, alpha).items()
    }
    peeking, union, exact = total.values()
    assert peeking > 5 * alpha and union < exact <= alpha and exact > 0.9 * alpha


def test_a_single_look_passes_with_its_binomial_probability():
    assert figures.passing(0.3, (20,), (2,))[-1] == pytest.approx(0.0354831, abs=1e-6)  # P(Bin(20, 0.3) ≤ 2)


def test_low_bits_tell_a_float_from_its_neighbours():
    step = 2.0**-8
    f = figures.LowBits(step)
    on_grid = torch.full((1, 1, 2, 2), 3 * 2.0**-24 * step)
    off_grid = on_grid.clone()
    off_grid[0, 0, 0, 0] += 2.0**-26 * step
    assert f(on_grid).argmax(1).item() == 1 and f(off_grid).argmax(1).item() == 0


# -- six false certificates ---------------------------------------------------------------------


def test_the_shares_of_a_line_are_those_of_its_noisy_copies_and_the_true_radius_is_where_they_tie():
    f = breakit.Line((-0.5, 0.5), (0, 1, 0))
    copies = f(0.2 + 0.3 * np.random.default_rng(0).standard_normal(200_000))
    assert f.probabilities(0.2, 0.3)[1] == pytest.approx(copies.mean(), abs=0.005)
    reach = f.true_radius(0.2, 0.3)
    assert f.probabilities(0.2 + reach, 0.3)[1] == pytest.approx(0.5, abs=1e-6)
    assert breakit.HALF_SPACE.true_radius(0.7, 1.0) == pytest.approx(0.7)
    assert f.true_radius(0.0, 1.0) == 12.0  # class 0 everywhere


def test_the_claim_and_the_truth_are_drawn_as_the_certificate_has_them():
    f = breakit.Line((-0.45, 0.45), (0, 1, 0))
    upper, lower = panels(figures.suited_figure(f))
    for x in (-1.0, 0.05, 0.3):
        prediction, radius, sigma = breakit.certify_suited(f, x)
        assert at(upper, "claimed", x) == pytest.approx(radius, abs=0.01)
        within = max(at(upper, "true", x) - 0.01, 0)  # drawn on a grid
        near = [breakit.certify_suited(f, x + d)[0] for d in np.linspace(-within, within, 7)]
        assert set(near) == {prediction}
    assert at(upper, "claimed", 0.05) > at(upper, "true", 0.05) + 0.3


def test_false_certificates_grow_with_the_looks_at_level_alpha_only():
    peeking, honest = figures.looks_rates((1, 10, 50), runs=4000)
    assert peeking[0] == honest[0] < peeking[1] < peeking[2] and (honest <= 0.05 * 4000).all()
    (axes,) = panels(figures.looks_figure((1, 10, 50), np.array([peeking, honest]), 4000))
    assert set(line(axes, "α = 5")[1]) == {5}


@pytest.mark.parametrize(
    "prepare", [*breakit.PREPARATIONS.values(), breakit.GREY_THEN_NORMALISED], ids=lambda p: p.name
)
def test_no_step_is_stretched_beyond_what_a_preparation_says(prepare):
    rng = np.random.default_rng(0)
    for _ in range(2000):
        x = rng.uniform(-0.5, 1.5, 2)
        moved = x + rng.normal(size=2) * rng.choice((0.001, 0.1, 1.0))
        step = np.linalg.norm(moved - x)
        assert np.linalg.norm(prepare(moved) - prepare(x)) <= prepare.stretch * step + prepare.jump + 1e-9


def test_each_attack_has_a_bar():
    (axes,) = panels(figures.attacks_figure({"no attack": 90, "FGSM": 40}, 100))
    assert [bar.get_width() for bar in axes.patches] == [90, 40]


# -- the explorer ------------------------------------------------------------------------------


def test_what_is_too_far_is_certified_with_probability_alpha_at_most():
    votes = explorer("08 VotesExplorer")
    for target in explorers.TARGETS:
        for _, alpha in explorers.ALPHAS:
            for truth in votes.move(target=target, alpha=alpha).truth.options[::4]:
                e = votes.move(truth=truth)
                assert 100 <= e.votes <= explorers.N
                if truth <= target:
                    assert e.share_fixed <= alpha + 1e-12
                    assert e.share * explorers.RUNS <= 1 + 5 * alpha * explorers.RUNS
    assert "no number would do" in votes.move(target=3.0, truth=1.0, alpha=0.001).text.value
