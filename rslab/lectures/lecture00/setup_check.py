"""Notebook 00: is everything here? It runs before anything else is imported, so that it can say what is missing."""

import platform
from importlib import import_module, metadata

import rslab

# What the lectures import → the package that brings it.
PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "ipywidgets": "ipywidgets",
}
FILES = {"MNIST": "MNIST/raw/t10k-images-idx3-ubyte", "CIFAR-10": "cifar-10-batches-py/test_batch"}
INSTALL = "run `make` in the course's folder again, or see README.md"


def run() -> None:
    """Print what is here, a line each: Python, packages, processor, data sets, shipped models.

    ✓: present. –: absent and not needed for the course. ✗: missing, and what to do.
    """
    print(f"✓ Python {platform.python_version()}, rslab {rslab.__version__}")
    loaded = [name for name, package in PACKAGES.items() if _loads(name, package)]
    if "torch" in loaded:
        _processors()
    if len(loaded) == len(PACKAGES):  # what follows imports them
        _data()


def _loads(name: str, package: str) -> bool:
    """Whether a package can be imported; prints its line."""
    try:
        import_module(name)
    except Exception as error:  # a library of the system that is missing is no ImportError everywhere
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        what = "is missing" if absent else f"is here but does not load ({type(error).__name__}: {error})"
        print(f"✗ {package} {what}: {INSTALL}")
        return False
    print(f"✓ {package} {metadata.version(package)}")
    return True


def _processors() -> None:
    import torch

    print(f"✓ threads for PyTorch: {torch.get_num_threads()}")
    if torch.cuda.is_available():
        print(f"✓ GPU: {torch.cuda.get_device_name(0)}")
    else:
        print("– no CUDA GPU: not needed, every cell of the course runs on a CPU")


def _data() -> None:
    from rslab.data.datasets import data_root
    from rslab.store.run_folder import RESULTS

    print("✓ digits: embedded, 1,797 images of 8 × 8 pixels; the default everywhere")
    for name, file in FILES.items():
        if (data_root() / file).is_file():
            print(f"✓ {name}: found; cells that can will show it")
        else:
            print(f"– {name}: not here, not needed; `rslab data --download` fetches it, RSLAB_DATA says where it lies")
    models = sorted(path.parent.name for path in (RESULTS / "digits").glob("*/weights.safetensors"))
    print(f"✓ shipped models: {', '.join(models)}" if models else f"✗ no shipped models: {INSTALL}")
