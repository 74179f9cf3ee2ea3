"""Notebook 04: its figures and what its explorers compute."""

import numpy as np
import pytest
from drawn import at, dots, line, panels, xy
from explorers import explorer
from scipy.stats import beta, norm

from rslab.lectures.lecture04 import explorers, figures
from rslab.lectures.lecture04.regions import cell_masses, fill
from rslab.smoothing import bounds

# -- figures ----------------------------------------------------------------------------------


def test_no_curve_of_the_envelope_figure_falls_below_the_half_spaces():
    p_a, sigma = 0.8, 0.5
    (axes,) = panels(figures.envelope_figure(p_a, sigma, count=30))
    distance, worst = line(axes, "the half-space")
    random = np.array([xy(drawn)[1] for drawn in axes.lines[:30]])
    assert random[:, 0] == pytest.approx(p_a, abs=1e-6) and worst[0] == pytest.approx(p_a)
    assert (random >= worst - 1e-6).all() and (random.min(0) < worst + 0.2).all()
    (radius, _) = line(axes, "R = ")[0]
    assert np.interp(radius, distance, worst) == pytest.approx(0.5, abs=1e-3)
    assert radius == pytest.approx(sigma * 0.8416212, abs=1e-6)


@pytest.mark.parametrize("quantile", [False, True])
def test_the_cones_meet_at_the_radius_with_the_slope_of_the_title(quantile):
    sigma = 0.5
    (axes,) = panels(figures.cones_figure(0.8, 0.1, sigma, quantile=quantile))
    ((radius, _),) = {tuple(xy(drawn)[0]) for drawn in axes.lines if "they meet" in str(drawn.get_label())}
    expected = sigma / 2 * (0.8416212 + 1.2815516) if quantile else sigma * np.sqrt(np.pi / 2) * 0.7
    assert radius == pytest.approx(expected, rel=1e-6)
    assert at(axes, "A:", radius) == pytest.approx(at(axes, "B,", radius), abs=1e-9)
    limit = 1 / sigma if quantile else 1 / (sigma * np.sqrt(2 * np.pi))
    for name, start, sign in (("A:", 0.8, -1), ("B,", 0.1, 1)):
        distance, edge = line(axes, name)
        assert distance[0] == 0 and edge[0] == pytest.approx(norm.ppf(start) if quantile else start)
        assert np.gradient(edge, distance) == pytest.approx(sign * limit)
    low, high = axes.get_ylim()
    assert low <= min(line(axes, "A:")[1]) and max(line(axes, "B,")[1]) <= high


def test_the_ceiling_lies_on_the_dots_and_none_above():
    left, right = panels(figures.ceiling_figure(count=3000))
    for axes in (left, right):
        level, slope = dots(axes).T
        ceiling = at(left, "ceiling", level) if axes is left else np.ones(len(level))
        assert (slope <= ceiling + 2e-3).all() and (slope / ceiling).max() > 0.99
    places, ceiling = line(left, "ceiling")
    inside = (places > 0.05) & (places < 0.95)
    step = np.gradient(places)[inside]
    assert np.gradient(ceiling)[inside] / step == pytest.approx(-norm.ppf(places[inside]), abs=0.02)  # (φ∘Φ⁻¹)′
    assert ceiling.max() == pytest.approx(1 / np.sqrt(2 * np.pi), abs=1e-4)
    assert line(left, "warm-up")[1][0] == pytest.approx(1 / np.sqrt(2 * np.pi))
    assert line(right, "ceiling")[1][0] == 1


def test_the_radii_keep_their_order_and_the_linear_ones_their_constants():
    (axes,) = panels(figures.radii_figure())
    failure, exact = line(axes, "Theorem 1.1")
    assert norm.cdf(-exact) == pytest.approx(failure, rel=1e-9)
    sharp, printed = line(axes, "warm-up, sharp")[1], line(axes, "warm-up, lecture's")[1]
    assert sharp == pytest.approx(np.sqrt(np.pi / 2) * (1 - 2 * failure)) and sharp == pytest.approx(2 * printed)
    renyi = line(axes, "Rényi")[1]
    assert (renyi <= exact + 1e-6).all() and renyi[-1] > 2 * sharp[-1]


def test_the_likelihood_ratio_is_that_of_the_densities():
    p_a, sigma, length = 0.8, 0.5, 0.6
    left, right = panels(figures.likelihood_figure(p_a, sigma, length))
    z, here = line(left, "noise around x:")
    there = line(left, "noise around x + δ")[1]
    step = z[1] - z[0]
    assert (step * here).sum() == pytest.approx(1, abs=2e-3) and (step * there).sum() == pytest.approx(1, abs=2e-3)
    ratio = xy(right.lines[-1])[1] if len(xy(right.lines[-1])[0]) > 2 else xy(right.lines[0])[1]
    np.testing.assert_allclose(ratio, there / here, rtol=1e-6)
    (edge,) = {xy(drawn)[0][0] for drawn in left.lines if len(xy(drawn)[0]) == 2}
    inside = z <= edge
    shares = (step * here[inside]).sum(), (step * there[inside]).sum()
    assert shares == pytest.approx((p_a, norm.cdf(norm.ppf(p_a) - length / sigma)), abs=0.01)


def test_in_the_gap_figure_the_ball_is_left_where_half_of_the_noise_leaves_it():
    (axes,) = panels(figures.gap_figure(0.99, 1.0))
    dimensions, radii = line(axes, "ball")
    assert line(axes, "certified")[1] == pytest.approx(norm.ppf(0.99))
    rng = np.random.default_rng(0)
    for number in (0, len(radii) // 2):
        d, away = int(dimensions[number]), radii[number]
        noise = rng.normal(size=(40_000, d))
        size = np.quantile((noise**2).sum(1), 0.99)
        noise[:, 0] += away
        assert ((noise**2).sum(1) <= size).mean() == pytest.approx(0.5, abs=0.04)
    assert (np.diff(radii) > 0).all() and line(axes, "half-space")[1] == pytest.approx(norm.ppf(0.99))


def test_the_walk_shows_the_shares_given_above_the_least_possible():
    distance = np.linspace(0, 1, 3)
    (axes,) = panels(figures.walk_figure(distance, {"a": np.ones(3), "b": np.zeros(3)}, 0.9, 0.25))
    assert line(axes, "a")[1].tolist() == [1, 1, 1] and line(axes, "b")[1].tolist() == [0, 0, 0]
    radius = line(axes, "certified R")[0][0]
    assert radius == pytest.approx(0.25 * 1.2815516, abs=1e-6)
    assert at(axes, "least possible", radius) == pytest.approx(0.5, abs=1e-3)
    assert at(axes, "least possible", 0) == pytest.approx(0.9)


@pytest.mark.parametrize("p_a", [0.3, 0.6, 0.99])
def test_random_regions_hold_exactly_p_a_and_never_less_than_the_half_space(p_a):
    steps = np.linspace(-4, 4, 81)
    shares = figures.share_along(*figures.random_regions(p_a, 500), steps)
    assert shares[:, 40] == pytest.approx(p_a, abs=1e-9)
    assert np.all(shares >= norm.cdf(norm.ppf(p_a) - abs(steps)) - 1e-9)
    assert np.all(shares <= norm.cdf(norm.ppf(p_a) + abs(steps)) + 1e-9)


def test_random_steps_stay_under_the_dome_and_reach_it():
    level, slope = figures.random_steps(5000, 0.5)
    some = (level > 1e-9) & (level < 1 - 1e-9)
    ratio = 0.5 * abs(slope[some]) / norm.pdf(norm.ppf(level[some]))
    assert ratio.max() == pytest.approx(1, abs=1e-6)


def test_the_renyi_radius_lies_between():
    for q in (0.01, 1e-4):
        renyi = figures.renyi_radius(1 - q, q)
        assert bounds.lipschitz_radius(1 - q, q, 1.0) < renyi < bounds.certified_radius(1 - q, 1.0)


# -- explorers ---------------------------------------------------------------------------------


def test_the_three_radii_keep_their_order_and_scale_with_sigma():
    radius_bound = explorer("04 RadiusExplorer")
    for p_a in explorers.P_A[::4]:
        for p_b in explorers.P_B[::5]:
            large = radius_bound.move(p_A=p_a, p_B=p_b, sigma=1.0).two_sided
            e = radius_bound.move(sigma=0.5)
            assert e.warm_up <= e.two_sided + 1e-12 and e.one_sided <= e.two_sided + 1e-12
            assert large == pytest.approx(2 * e.two_sided)
            assert (e.two_sided > 0) == (p_a > e.p_b) and e.p_b <= 1 - p_a + 1e-9
    radii = [radius_bound.move(p_A=p, p_B=0.001).two_sided for p in explorers.P_A[::3]]
    assert radii == sorted(radii)
    assert radius_bound.move(p_A=0.5, p_B=0.1, sigma=1.0).two_sided == pytest.approx(0.64078, abs=1e-5)
    assert "cannot exceed" in radius_bound.move(p_A=0.8, p_B=0.5).text.value
    assert "nothing is certified" in radius_bound.move(p_A=0.3, p_B=0.5).text.value


def test_what_votes_certify_stays_below_the_exact_radii_and_comes_near():
    radius_bound = explorer("04 RadiusExplorer")
    for p_a in explorers.P_A[3::3]:
        gaps = []
        for _, n in explorers.VOTES:
            e = radius_bound.move(p_A=p_a, p_B=0.1, n=n, alpha=0.001)
            exact = (e.warm_up, e.one_sided, e.two_sided)
            assert all(low <= high + 1e-12 for low, high in zip(e.from_votes, exact, strict=True))
            assert e.lower == pytest.approx(beta.ppf(0.001, round(p_a * n), n - round(p_a * n) + 1)
                                            if round(p_a * n) < n else 0.001 ** (1 / n))  # fmt: skip
            gaps.append(e.one_sided - e.from_votes[1])
        assert gaps[0] >= gaps[-1]
    careless = radius_bound.move(p_A=0.9, n=1000, alpha=0.1).from_votes
    assert all(np.array(careless) > radius_bound.move(alpha=1e-6).from_votes)


def test_the_axes_are_filled_at_every_position():
    radius_bound, half_space = explorer("04 RadiusExplorer"), explorer("04 HalfspaceExplorer")
    for p_a in explorers.P_A[2:]:
        for sigma in explorers.SIGMAS[::6]:
            radius_bound.move(p_A=p_a, sigma=sigma)
            end = radius_bound.figure.axes[0].get_xlim()[1]
            reach = max(radius_bound.two_sided, radius_bound.one_sided, radius_bound.warm_up, 0.5 * sigma)
            assert reach <= end < max(2 * reach, 0.11)
    for p_a in (0.505, 0.6, 0.8, 0.99, 0.999):
        for sigma in explorers.SIGMAS[::6]:
            half_space.move(p_A=p_a, sigma=sigma, length=0.1)
            plane, along, curve = half_space.figure.axes
            for axes in (plane, along, curve):  # the review: at p_A = 0.99, σ = 1 the radius lay outside
                assert axes.get_xlim()[0] <= half_space.radius < axes.get_xlim()[1]


def test_g_changes_exactly_beyond_the_green_circle():
    half_space = explorer("04 HalfspaceExplorer")
    for p_a in (0.55, 0.8, 0.99):
        for length in np.linspace(0, 3, 16):
            half_space.move(p_A=p_a, length=length)
            assert (half_space.share > 0.5) == (length < half_space.radius)
    assert "g has changed" in half_space.move(p_A=0.6, length=2.0).text.value


def test_delta_follows_the_hand_and_the_axes_stay_meanwhile():
    half_space = explorer("04 HalfspaceExplorer").move(sigma=0.25, length=2.0)
    plane = half_space.figure.axes[0]
    assert plane.get_xlim() == (-2.5, 2.5)
    half_space.drag(-0.3, 0.4)
    assert (half_space.length.value, half_space.angle.value) == (0.5, 127)  # degrees: 180 − arctan(4/3)
    assert half_space.share == pytest.approx(norm.cdf(norm.ppf(0.8) - 2)) and plane.get_xlim() == (-2.5, 2.5)
    half_space.drag(0.0, 0.001)
    assert (half_space.length.value, half_space.angle.value) == (0, 127)  # no length, no angle: the old one stays
    half_space.drag(2.5, -2.5)
    assert (half_space.length.value, half_space.angle.value) == (3, 315)
    half_space.move(length=0.2)
    assert plane.get_xlim() == (-0.4, 0.4)
    half_space.lock()
    assert half_space.image.grips == []
    half_space.lock(False)
    assert len(half_space.image.grips) == 1


# -- beat the theorem --------------------------------------------------------------------------


def test_cells_are_filled_in_order_until_the_mass_is_spent():
    edges = np.linspace(-3, 3, 25)
    masses = cell_masses(edges, 0.5)
    assert masses.sum() == pytest.approx(1) and masses[0] == pytest.approx(norm.cdf(-3.5))
    assert masses[5] == pytest.approx(norm.cdf(edges[5] - 0.5) - norm.cdf(edges[4] - 0.5))
    for p in (0.0, 0.3, 0.8, 1.0):
        shares = fill(np.arange(26)[::-1], masses, p)
        assert shares @ masses == pytest.approx(p) and ((0 < shares) & (shares < 1 - 1e-12)).sum() <= 1
        assert (np.diff(shares) >= 0).all()


def test_no_region_that_a_reader_can_place_gets_below_the_half_space():
    beat = explorers.BeatTheoremExplorer()
    rng = np.random.default_rng(0)
    for _ in range(60):
        beat.first.value, beat.second.value = (tuple(np.sort(rng.uniform(-4, 4, 2)).round(1)) for _ in range(2))
        beat.move(start=rng.choice(explorers.STARTS), p_A=rng.choice(explorers.LEVELS))
        beat.move(length=rng.choice(explorers.AT))
        assert beat.region @ cell_masses(explorers.FINE) == pytest.approx(beat.p_A.value)
        floor = norm.cdf(norm.ppf(beat.p_A.value) - explorers.DISTANCES)
        assert (beat.curve >= floor - 1e-12).all() and beat.share >= beat.floor - 1e-12
        assert np.interp(beat.length.value, explorers.DISTANCES, beat.curve) == pytest.approx(beat.share, abs=1e-3)
        assert 1 <= len(beat.intervals()) <= 3


def test_the_half_space_itself_is_reached_and_the_counter_says_so():
    beat = explorers.BeatTheoremExplorer()
    assert "no one gets below" in beat.counter.value
    beat.first.value = (-4.0, 1.0)
    assert beat.share == pytest.approx(beat.floor, abs=5e-4) and beat.share >= beat.floor
    assert "you have reached it" in beat.counter.value


def test_the_ratio_ends_at_the_half_space_and_no_other_order_pays_less():
    greedy = explorer("04 GreedyExplorer")
    for length in (0.5, 2.0):
        for p_a in (0.6, 0.8, 0.95):
            greedy.move(length=length, p_A=p_a, taken=len(explorers.COARSE) + 1)
            paid = {name: greedy.move(order=name).paid for name in explorers.ORDERS}
            assert greedy.gained == pytest.approx(p_a)
            assert paid[explorers.ORDERS[-1]] <= min(paid.values()) + 1e-12  # δ long: the cheapest cells are the same
            assert greedy.floor <= paid[explorers.ORDERS[-1]] < greedy.floor + 0.01
            edge = np.flatnonzero(greedy.region)
            assert (edge == np.arange(len(edge))).all()  # from the far left, without a gap
    assert greedy.move(taken=0).paid == 0 and "not reached" in greedy.text.value
    greedy.play.value = 3
    assert greedy.taken.value == 3 and (greedy.region > 0).sum() == 3
