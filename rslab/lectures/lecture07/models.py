"""The models behind the table of notebook 07, with the radius of every image: published ones and our own."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rslab.lectures.lecture07.figures import own_runs
from rslab.report import published


@dataclass(frozen=True)
class Models:
    """Models certified on the same images.

    `table`: a row a model, as from `published.load`; `radii`: their radii in thousandths, −1 where not certified
    correctly, (models, images); `numbers`: of the images in the test set.
    """

    table: pd.DataFrame
    radii: np.ndarray
    numbers: np.ndarray

    def certified(self, radius: float) -> np.ndarray:
        """Which images each model classifies correctly with at least this radius: (models, images)."""
        return self.radii >= round(1000 * radius)

    def part(self, kept: np.ndarray) -> "Models":
        """The models where `kept` is true."""
        return Models(self.table[kept], self.radii[kept], self.numbers)


def smoothadv_models(images: int) -> Models:
    """The published SmoothAdv models: the whole grid on 500 images, the best models on 10,000."""
    name = "cifar10-grid" if images == 500 else "cifar10-best"
    radii, table = published.radii(name), published.load(name)
    table = table[table.every == 1].loc[radii.index]
    attacked = (table.method == "smoothadv").to_numpy()
    return Models(table[attacked], radii.to_numpy()[attacked], radii.columns.to_numpy())


def gaussian_models(images: int) -> Models:
    """The four networks of Cohen et al. 2019, as Salman et al. 2019 certified them."""
    radii, best = published.radii("cifar10-best"), published.load("cifar10-best")
    every = 10_000 // images
    table = published.group(best[best.every == every], "Cohen et al.")
    return Models(table, radii.loc[table.index].to_numpy()[:, ::every], radii.columns.to_numpy()[::every])


def own_models() -> Models:
    """The runs in this copy's results that were certified on every 20th CIFAR-10 test image."""
    numbers = np.arange(0, 10_000, 20)
    kept = {
        name: log.sort_values("idx")
        for name, log in own_runs().items()
        if name.startswith("cifar10") and sorted(log.idx) == numbers.tolist()
    }
    radii = np.array([published.packed(log).astype(np.int16) - 1 for log in kept.values()], np.int16)
    return Models(pd.DataFrame(index=list(kept)), radii.reshape(len(kept), len(numbers)), numbers)
