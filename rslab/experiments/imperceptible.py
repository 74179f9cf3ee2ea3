"""Changes of one to eight grey levels of 255 that turn an espresso into something else.

The four photographs against EfficientNet-Lite0, without noise: PGD under ℓ∞ by its number of steps, FGSM among them
(one step), each result rounded to whole grey levels, as a PNG would keep it, and judged by three networks: the
attacked one and two that the attack never saw (transfer).

`python -m rslab.experiments.imperceptible` writes `results/pictures/linf.json` and `linf.npz`; needs
`rslab[photographs]`; five minutes on one busy core.
"""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from rslab.attacks import pgd
from rslab.data.photographs import PHOTOGRAPHS, load_photographs
from rslab.errors import InputError, WorkError
from rslab.experiments.pictures import write_arrays
from rslab.lectures.pictures import GREY_LEVELS, KEPT_GREY_LEVELS, KEPT_STEPS, PLACE, STEPS
from rslab.networks.efficientnet import SIZES, efficientnet_lite
from rslab.networks.inference import InferenceNetwork
from rslab.store import files


@torch.no_grad()
def judged(network: nn.Module, images: Tensor, labels: Tensor) -> list[dict]:
    """For each image: the class, its probability, and that of the label given."""
    probs = network(images).softmax(1)
    top = probs.argmax(1)
    rows = zip(top.tolist(), probs.amax(1).tolist(), probs.gather(1, labels[:, None])[:, 0].tolist(), strict=True)
    return [{"class": c, "probability": round(p, 4), "of label": round(own, 4)} for c, p, own in rows]


def attacked(network: nn.Module, images: Tensor, labels: Tensor, levels: int, steps: int) -> Tensor:
    """PGD under ℓ∞ within `levels` grey levels, rounded to whole ones: int8 changes (B, C, H, W)."""
    found = pgd(network, images, labels, levels / 255, steps=steps, norm="linf", keep="last")
    return ((found - images) * 255).round().to(torch.int8)


def study(folder: Path = PLACE) -> dict:
    """Every photograph, ε and number of steps; written to `folder`, and the numbers back."""
    data = load_photographs()
    images = data.images
    networks = [InferenceNetwork(efficientnet_lite(size)) for size in SIZES]
    names = [f"efficientnet-lite{size}" for size in SIZES]
    with torch.no_grad():
        starts = networks[0](images).argmax(1)  # what the attacked network says is to change, on every network
    clean = {name: judged(network, images, starts) for name, network in zip(names, networks, strict=True)}
    rows, changes = [], {}
    for levels in GREY_LEVELS:
        for steps in STEPS:
            change = attacked(networks[0], images, starts, levels, steps)
            moved = images + change.float() / 255
            rows.append({
                "levels": levels,
                "steps": steps,
                **{name: judged(network, moved, starts) for name, network in zip(names, networks, strict=True)},
            })  # fmt: skip
            if steps == KEPT_STEPS and levels in KEPT_GREY_LEVELS:
                changes[str(levels)] = change.numpy()
    numbers = {"photographs": list(PHOTOGRAPHS), "clean": clean, "attacked": rows}
    files.write_whole(folder / "linf.npz", lambda place: write_arrays(place, **changes))
    files.write_whole(folder / "linf.json", lambda place: place.write_text(json.dumps(numbers) + "\n", "utf-8"))
    return numbers


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        for row in study()["attacked"]:
            print(row)
    except (InputError, WorkError) as error:
        sys.exit(f"imperceptible: {error}")
