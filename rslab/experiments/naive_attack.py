"""The naive attack against SmoothAdv on shipped networks, and how SmoothAdv weighs its noisy copies.

Both attacks are PGD with the same m copies of noise in the same ε-ball. The naive one climbs the mean of
−log F(x + δᵢ)_y, SmoothAdv −log of the mean of F(x + δᵢ)_y, whose gradient weighs copy i by
wᵢ = F(x + δᵢ)_y / Σⱼ F(x + δⱼ)_y. Of a hundred test images (CIFAR-10: every hundredth; digits: the first) those that g
gets right are attacked; g is judged by fresh votes, the same noise for both attacks.

`python -m rslab.experiments.naive_attack [NETWORK …]` writes `results/naive-attack.npz` and skips what is there; needs
CIFAR-10; fifteen minutes of one core.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rslab.attacks import negative_log_likelihood, pgd
from rslab.data.datasets import load_dataset
from rslab.errors import InputError, WorkError
from rslab.experiments.pictures import write_arrays
from rslab.lectures.lecture06.copies import IMAGES, LOG, SETTINGS, SIGMA_OF_STANDARD
from rslab.machine.randomness import generator_for
from rslab.networks.inference import InferenceNetwork
from rslab.store import files
from rslab.store.run_folder import RESULTS, load_run

COPIES, STEPS, VOTES, AT_ONCE = 16, 20, 400, 8

Network = Callable[[Tensor], Tensor]


def noise_for(purpose: str, images: list[int], count: int, shape: tuple[int, ...], sigma: float) -> Tensor:
    """`count` draws of noise for each image, from a generator of its own: (count, B, C, H, W)."""
    draws = [torch.randn(count, *shape, generator=generator_for(purpose, 0, image)) for image in images]
    return sigma * torch.stack(draws, 1)


def copies_of_label(f: Network, z: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """log F_y of every noisy copy of z (B, C, H, W): (m, B)."""
    log_probs = f((z + noise).flatten(0, 1)).log_softmax(1).unflatten(0, noise.shape[:2])
    return log_probs.gather(2, y.expand(len(noise), -1)[..., None])[..., 0]


def effective_copies(log_f: Tensor) -> Tensor:
    """1 / Σ wᵢ² for the weights w = softmax over the copies of log F_y (m, B): (B,), from 1 to m."""
    return 1 / log_f.softmax(0).square().sum(0)


def attacked(f: Network, x: Tensor, y: Tensor, noise: Tensor, epsilon: float, smoothed: bool) -> tuple[Tensor, Tensor]:
    """Where SmoothAdv (`smoothed`) or the naive attack ends (B, C, H, W), and the effective copies on the way.

    (T + 1, B); along the naive attack those that SmoothAdv's weights would have there.
    """
    path: list[Tensor] = []

    def scores(z: Tensor) -> Tensor:
        log_probs = f((z + noise).flatten(0, 1)).log_softmax(1).unflatten(0, noise.shape[:2])
        of_label = log_probs.detach().gather(2, y.expand(len(noise), -1)[..., None])[..., 0]
        path.append(effective_copies(of_label))
        return log_probs.logsumexp(0) - np.log(len(noise)) if smoothed else log_probs.mean(0)

    end = pgd(scores, x, y, epsilon, steps=STEPS, objective=negative_log_likelihood)
    return end, torch.stack(path)


def compared_gradients(f: Network, z: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """At z: log F_y of the copies (m, B); cosine of both attacks' gradients (B,); mean cosine of two copies' (B,)."""
    copies = (z + noise).detach().requires_grad_()
    log_f = copies_of_label(f, copies, y, torch.zeros_like(noise))
    slopes = torch.autograd.grad(log_f.sum(), copies)[0].flatten(2)  # each copy's own ∇ log F_y: (m, B, d)
    log_f = log_f.detach()
    naive, smoothadv = slopes.mean(0), (log_f.softmax(0)[..., None] * slopes).sum(0)
    units = torch.nn.functional.normalize(slopes, dim=2, eps=1e-30)
    m = len(noise)
    alike = (units.sum(0).square().sum(1) - m) / (m * (m - 1))
    return log_f, torch.cosine_similarity(naive, smoothadv, 1, eps=1e-30), alike


@torch.no_grad()
def judged(f: Network, z: Tensor, y: Tensor, images: list[int], sigma: float, n: int) -> tuple[Tensor, Tensor]:
    """Votes a class (B, 10) of n fresh noisy copies of z, and the mean of F_y over them, G_y: (B,)."""
    votes, soft = [], []
    for image, label, index in zip(z, y, images, strict=True):
        probs = f(image + noise_for("predict", [index], n, tuple(image.shape), sigma)[:, 0]).softmax(1)
        votes.append(torch.bincount(probs.argmax(1), minlength=probs.shape[1]))
        soft.append(probs[:, label].mean())
    return torch.stack(votes), torch.stack(soft)


def compare(f: Network, x: Tensor, y: Tensor, images: list[int], sigma: float, epsilon: float) -> dict[str, np.ndarray]:
    """Both attacks on the images x (B, C, H, W), whose numbers are `images`; what `lecture06.copies` reads.

    The first axis of votes, soft, copies, cosine and alike: clean, naive, SmoothAdv; of path: naive, SmoothAdv.
    """
    parts: list[dict[str, Tensor]] = []
    for start in range(0, len(x), AT_ONCE):
        few = slice(start, start + AT_ONCE)
        noise = noise_for("attack", images[few], COPIES, tuple(x.shape[1:]), sigma)
        naive, naive_path = attacked(f, x[few], y[few], noise, epsilon, smoothed=False)
        smoothadv, path = attacked(f, x[few], y[few], noise, epsilon, smoothed=True)
        points = (x[few], naive, smoothadv)
        votes, soft = zip(*(judged(f, z, y[few], images[few], sigma, VOTES) for z in points), strict=True)
        log_f, cosine, alike = zip(*(compared_gradients(f, z, y[few], noise) for z in points), strict=True)
        rows = {"votes": votes, "soft": soft, "copies": log_f, "cosine": cosine, "alike": alike}
        parts.append({name: torch.stack(values) for name, values in rows.items()})
        parts[-1]["path"] = torch.stack((naive_path, path))
    axes = {"votes": 1, "soft": 1, "copies": 2, "cosine": 1, "alike": 1, "path": 2}  # of the images
    joined = {name: torch.cat([part[name] for part in parts], axis).numpy() for name, axis in axes.items()}
    kinds = {"votes": np.uint16}
    return {name: values.astype(kinds.get(name, np.float16)) for name, values in joined.items()}


def study(name: str, epsilons: tuple[float, ...], done: dict[str, np.ndarray]) -> None:
    """Add what `done`, the arrays of the log, lacks of one shipped network, and write the log after each ε."""
    model, config = load_run(RESULTS / name)
    f, data = InferenceNetwork(model), load_dataset(config.dataset, "test")
    sigma = config.sigma or SIGMA_OF_STANDARD
    images = list(IMAGES[config.dataset])
    x, y = data.images[images], torch.tensor([int(data.labels[image]) for image in images])
    if f"{name} clean" not in done:
        done[f"{name} clean"] = judged(f, x, y, images, sigma, VOTES)[0].numpy().astype(np.uint16)
        done[f"{name} labels"] = y.numpy().astype(np.uint8)
    right = np.flatnonzero(done[f"{name} clean"].argmax(1) == y.numpy())
    for epsilon in epsilons:
        if f"{name} {epsilon:g} votes" in done:
            continue
        began = time.process_time()
        rows = compare(f, x[right], y[right], [images[k] for k in right], sigma, epsilon)
        done |= {f"{name} {epsilon:g} {key}": values for key, values in rows.items()}
        files.write_whole(LOG, lambda place: write_arrays(place, **done))  # noqa: B023 (called at once)
        soft = rows["soft"].astype(float).mean(1)
        print(f"{name}, ε = {epsilon:g}: {len(right)} images, G_y clean, naive, SmoothAdv {soft.round(3)}; "
              f"{time.process_time() - began:.0f} s of processor time", flush=True)  # fmt: skip


def main(arguments: list[str]) -> None:
    """Study the networks named, or all of `SETTINGS`."""
    unknown = [name for name in arguments if name not in SETTINGS]
    if unknown:
        raise InputError(f"NETWORK: got {unknown[0]!r}, expected one of {', '.join(SETTINGS)}.")
    torch.set_num_threads(1)
    done: dict[str, np.ndarray] = {}
    if LOG.is_file():
        with np.load(LOG, allow_pickle=False) as stored:
            done = dict(stored)
    for name in arguments or SETTINGS:
        study(name, SETTINGS[name], done)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (InputError, WorkError) as error:
        sys.exit(f"naive_attack: {error}")
