"""Every method's loss against the formula written out, on a linear model."""

import pytest
import torch
from helpers import normal, seeded, training_options, uniform
from torch import nn
from torch.nn import functional as F

from rslab import attacks
from rslab.config import METHODS, TrainConfig
from rslab.networks.models import build_model
from rslab.training.losses import LOSSES, Step

SIGMA, EPSILON = 0.25, 0.2


@pytest.fixture
def model():
    """Linear, three classes, so that batch norm plays no part: 12 pixels."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with torch.no_grad():
        network[1].weight.copy_(normal(3, 12, seed=5))
        network[1].bias.copy_(normal(3, seed=6))
    return network.train()


# So near ½ that no step leaves [0, 1].
X, Y = 0.5 + 0.03 * normal(4, 3, 2, 2, seed=7), torch.tensor([0, 1, 2, 0])


def loss_of(model, method, samples=4, seed=3, **options) -> torch.Tensor:
    """The loss of each image by the package: (B,)."""
    config = training_options(method=method, sigma=SIGMA, epsilon=EPSILON, samples=samples, steps=3, **options)
    loss, scores = LOSSES[method](model, X, Y, Step(config, EPSILON, seeded(seed)))
    assert loss.shape == (4,) and scores.shape == (4, 3) and loss.requires_grad
    return loss.detach()


def noise_of(samples=4, seed=3) -> torch.Tensor:
    return torch.randn(samples, *X.shape, generator=seeded(seed)) * SIGMA


def cross_entropies(model, copies) -> torch.Tensor:
    """The cross-entropy of each copy by itself: (m, B, …) → (m, B)."""
    return torch.stack([nn.functional.cross_entropy(model(copy), Y, reduction="none") for copy in copies]).detach()


def probabilities(model, copies) -> torch.Tensor:
    """p_y of each copy: (m, B)."""
    return (-cross_entropies(model, copies)).exp()


def ascent(loss) -> torch.Tensor:
    """Three ℓ2 steps of 2.5 ε / 3 on `loss(x)`, in the ball: plainly written PGD."""
    x = X.clone()
    for _ in range(3):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x).sum(), x)
        step = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None] * 2.5 * EPSILON / 3
        x = X + (x.detach() - X + step).renorm(2, 0, EPSILON)
    return x


def losses_under(model, noise):
    """−mean log F and −log mean F at x, as functions of x."""

    def mean_log(x):
        return -torch.stack([model(x + d).log_softmax(1) for d in noise]).mean(0)[range(4), Y]

    def log_mean(x):
        return -torch.stack([model(x + d).softmax(1) for d in noise]).mean(0)[range(4), Y].log()

    return mean_log, log_mean


def test_standard_is_the_cross_entropy(model):
    assert torch.allclose(loss_of(model, "standard"), cross_entropies(model, [X])[0], atol=1e-6)


def test_gaussian_is_the_mean_cross_entropy_of_the_noisy_copies(model):
    expected = cross_entropies(model, X + noise_of()).mean(0)
    assert torch.allclose(loss_of(model, "gaussian"), expected, atol=1e-5)


def test_smoothed_is_minus_log_of_the_mean_probability(model):
    expected = -probabilities(model, X + noise_of()).mean(0).log()
    assert torch.allclose(loss_of(model, "smoothed"), expected, atol=1e-5)
    assert (expected < loss_of(model, "gaussian")).all()


def test_consistency_adds_the_divergence_of_the_copies_and_the_entropy_of_their_mean(model):
    """Term by term with torch's own KL divergence, entropy and cross-entropy."""
    options = dict(samples=3, consistency=4.0, confidence=0.25)
    noise = noise_of(samples=3)
    probs = [model(X + delta).softmax(1).detach() for delta in noise]
    mean = torch.stack(probs).mean(0)
    plain = cross_entropies(model, X + noise).mean(0)
    divergence = torch.stack([F.kl_div(p.log(), mean, reduction="none").sum(1) for p in probs]).mean(0)
    entropy = torch.distributions.Categorical(mean).entropy()
    expected = plain + 4 * divergence + 0.25 * entropy
    assert (divergence > 0).all()
    torch.testing.assert_close(loss_of(model, "consistency", **options), expected)
    bare = loss_of(model, "consistency", samples=3, consistency=0.0, confidence=0.0)
    torch.testing.assert_close(bare, loss_of(model, "gaussian", samples=3))


def test_smoothmix_draws_the_prediction_towards_uniform_on_the_way_to_the_attacked_image(model):
    """Term by term with torch's own KL divergence; λ is drawn after the noise."""
    generator = seeded(3)
    noise = torch.randn(4, *X.shape, generator=generator) * SIGMA
    share = 0.5 * torch.rand(4, generator=generator)
    _, log_mean = losses_under(model, noise)
    mean = torch.stack([model(X + delta).softmax(1) for delta in noise]).mean(0).detach()
    mixed = X.lerp(ascent(log_mean), share[:, None, None, None])
    target = mean.lerp(torch.full_like(mean, 1 / 3), share[:, None])
    logs = [model(mixed + delta).log_softmax(1).detach() for delta in noise]
    divergence = torch.stack([F.kl_div(log, target, reduction="none").sum(1) for log in logs]).mean(0)
    right = mean.argmax(1) == Y
    expected = cross_entropies(model, X + noise).mean(0) + 4 * divergence * right
    assert right.any() and not right.all() and (divergence > 0).all()
    torch.testing.assert_close(loss_of(model, "smoothmix", mixing=4.0), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loss_of(model, "smoothmix", mixing=0.0), loss_of(model, "gaussian"))


def test_smoothmix_of_a_constant_network_is_known_in_numbers_and_so_is_its_gradient():
    """F = p: −log p_y, and where y is the likeliest class η KL(q ‖ p) with q = (1 − λ) p + λ/K."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    nn.init.zeros_(network[1].weight)
    network[1].bias.data = torch.tensor([0.7, 0.2, 0.1]).log()
    generator = seeded(3)
    torch.randn(2, *X.shape, generator=generator)
    share = 0.5 * torch.rand(4, generator=generator)
    config = training_options(method="smoothmix", sigma=SIGMA, epsilon=EPSILON, samples=2, steps=2, mixing=4.0)
    loss, _ = LOSSES["smoothmix"](network, X, Y, Step(config, EPSILON, seeded(3)))
    p = torch.tensor([0.7, 0.2, 0.1])
    q = p.lerp(torch.full((3,), 1 / 3), share[:, None])
    divergence = (q * (q / p).log()).sum(1)
    torch.testing.assert_close(loss.detach(), -p.log()[Y] + 4 * divergence * (Y == 0))
    (slope,) = torch.autograd.grad(loss[0], network[1].bias)
    by_p = (1 - share[0]) * ((q[0] / p).log() + 1) - q[0] / p  # of KL(q(p) ‖ p)
    by_hand = p - torch.eye(3)[0] + 4 * p * (by_p - p @ by_p)  # through the softmax
    torch.testing.assert_close(slope, by_hand)


@pytest.mark.parametrize("outer", ["mean-ce", "log-mean"])
def test_smoothadv_attacks_g_and_updates_by_either_loss_on_the_same_noise(model, outer):
    noise = noise_of()
    _, log_mean = losses_under(model, noise)
    copies = ascent(log_mean) + noise
    by_mean_ce, by_log_mean = cross_entropies(model, copies).mean(0), -probabilities(model, copies).mean(0).log()
    expected = by_mean_ce if outer == "mean-ce" else by_log_mean
    assert torch.allclose(loss_of(model, "smoothadv", outer=outer), expected, atol=1e-4)
    assert not torch.allclose(by_mean_ce, by_log_mean, atol=1e-3)


def test_naive_attacks_the_mean_of_the_logs(model):
    noise = noise_of()
    mean_log, log_mean = losses_under(model, noise)
    expected = cross_entropies(model, ascent(mean_log) + noise).mean(0)
    assert torch.allclose(loss_of(model, "naive"), expected, atol=1e-4)
    assert not torch.allclose(expected, cross_entropies(model, ascent(log_mean) + noise).mean(0), atol=1e-4)


def attack_on_f(model) -> torch.Tensor:
    return ascent(lambda x: F.cross_entropy(model(x), Y, reduction="none"))


def test_adversarial_is_the_loss_at_the_attack_on_f_mixed_with_the_clean_one(model):
    adversarial = cross_entropies(model, [attack_on_f(model)])[0]
    assert torch.allclose(loss_of(model, "adversarial"), adversarial, atol=1e-4)
    clean = cross_entropies(model, [X])[0]
    expected = 0.75 * adversarial + 0.25 * clean
    assert torch.allclose(loss_of(model, "adversarial", clean=0.25), expected, atol=1e-4)


def test_combination_1_is_the_mean_of_adversarial_and_gaussian(model):
    expected = (loss_of(model, "adversarial") + loss_of(model, "gaussian")) / 2
    assert torch.allclose(loss_of(model, "combine1"), expected, atol=1e-6)


def test_combination_2_adds_the_noise_after_the_attack_on_f(model):
    expected = cross_entropies(model, attack_on_f(model) + noise_of()).mean(0)
    assert torch.allclose(loss_of(model, "combine2"), expected, atol=1e-4)


def test_combination_3_attacks_f_at_each_noisy_copy_by_itself(model):
    noise = noise_of()
    copies = torch.stack([ascent(lambda x, d=d: F.cross_entropy(model(x + d), Y, reduction="none")) + d for d in noise])
    assert torch.allclose(loss_of(model, "combine3"), cross_entropies(model, copies).mean(0), atol=1e-4)


def test_combinations_3_and_4_and_naive_are_one_with_a_single_noise_sample(model):
    of_4 = loss_of(model, "smoothadv", samples=1)
    assert torch.allclose(loss_of(model, "combine3", samples=1), of_4, atol=1e-5)
    assert torch.allclose(loss_of(model, "naive", samples=1), of_4, atol=1e-5)


def test_fgsm_training_takes_one_linf_step(model):
    found = loss_of(model, "adversarial", attack="fgsm", norm="linf")
    adversarial = attacks.fgsm(model, X, Y, EPSILON)
    assert torch.allclose(found, cross_entropies(model, [adversarial])[0], atol=1e-6)


def test_ddn_training_takes_the_loss_at_the_nearest_example(model):
    found = loss_of(model, "adversarial", attack="ddn")
    assert torch.allclose(found, cross_entropies(model, [attacks.ddn(model, X, Y, EPSILON, steps=3)])[0], atol=1e-5)
    clean, right = cross_entropies(model, [X])[0], model(X).argmax(1) == Y
    # What f gets wrong already is its own nearest adversarial example.
    assert right.any() and (found[right] > clean[right]).all() and torch.allclose(found[~right], clean[~right])


@pytest.mark.parametrize("method", METHODS)
def test_every_loss_reaches_all_weights_and_leaves_the_model_as_it_was(method):
    network = build_model("cnn", "digits", 10).train()
    config = training_options(method=method, sigma=SIGMA, epsilon=EPSILON, samples=2, steps=2)
    x, y = uniform(6, 1, 8, 8), torch.arange(6)
    loss, scores = LOSSES[method](network, x, y, Step(config, EPSILON, seeded()))
    loss.mean().backward()
    assert scores.shape == (6, 10) and loss.isfinite().all()
    assert network.training
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_attack_sees_the_weights_of_the_step_without_gradients_and_batch_norm_in_eval_mode():
    network, x = build_model("cnn", "digits", 10).train(), uniform(4, 1, 8, 8)
    step = Step(TrainConfig(), 0.5, torch.Generator())
    for _ in range(2):  # the second time after the model has changed
        with torch.no_grad():
            network(normal(16, 1, 8, 8))  # moves the running statistics
            for parameter in network.parameters():
                parameter.add_(0.1 * normal(*parameter.shape, seed=parameter.numel()))
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        inside = step.frozen(network)
        assert not any(module.training for module in inside.modules())
        assert not any(parameter.requires_grad for parameter in inside.parameters())
        scores = inside(x)
        assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
        assert all(module.training for module in network.modules())
        assert all(parameter.requires_grad for parameter in network.parameters())
        expected = network.eval()(x)
        network.train()
        assert torch.allclose(scores, expected, atol=1e-5 * float(expected.detach().abs().max()))
    assert step.frozen(build_model("cnn", "digits", 10)) is not inside


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{}, {"attack": "ddn"}, {"attack": "fgsm"}, {"clean": 0.5}])
def test_the_passes_of_a_method_are_those_that_its_step_makes(method, options, monkeypatch):
    """Three for each image that the network is trained on, two for each where an attack takes the gradient."""
    config = training_options(method=method, samples=2, steps=3, **options)
    network, seen = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), {"trained": 0, "attacked": 0}
    frozen = Step.frozen

    def count(images, which):
        seen[which] += len(images) * (3 if which == "trained" else 1 + images.requires_grad)
        return images

    def counted_copy(step, model):
        copy = frozen(step, network)
        return lambda z: copy(count(z, "attacked"))

    monkeypatch.setattr(Step, "frozen", counted_copy)
    LOSSES[method](lambda z: network(count(z, "trained")), X, Y, Step(config, 0.2, seeded(0)))
    assert config.passes * len(X) == seen["trained"] + seen["attacked"]
