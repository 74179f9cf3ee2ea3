"""`rslab data`."""

from typing import Annotated

from cyclopts import Parameter

from rslab.data.datasets import DATASETS, PLACES, data_root, load_dataset
from rslab.errors import WorkError, check_choice


def data(
    names: Annotated[list[str] | None, Parameter(name="NAME", help="Data sets (default: all)", negative=())] = None,
    /,
    *,
    download: Annotated[bool, Parameter(negative="--no-download", help="Fetch what is absent")] = False,
) -> int:
    """Show where the data sets are and whether they are whole; --download fetches what is absent."""
    for name in names or DATASETS:
        check_choice("dataset", name, DATASETS)
    print(f"RSLAB_DATA: {data_root()}")
    absent, width = 0, max(map(len, names or DATASETS))
    for name in names or DATASETS:
        try:
            train, test = (load_dataset(name, split, download=download) for split in ("train", "test"))
        except WorkError as error:
            absent += 1
            print(f"{name:{width}} {error}\n{'':{width}} Expected in {data_root()}/{PLACES[name]}")
            continue
        size = "×".join(map(str, train.shape))
        print(
            f"{name:{width}} {len(train)} training and {len(test)} test images of {size}, {train.num_classes} classes"
        )
    return 1 if absent and names else 0
