"""rslab: train, attack and certify smoothed classifiers, and see why it works.

The names of the field are here, each loaded when it is first asked for; `docs/python.md` has an example of each.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "smoothing.classifier": "SmoothedClassifier Certificate Prediction ABSTAIN log_mean_probs mean_log_probs",
    "smoothing.bounds": "lower_confidence_bound certified_radius max_certified_radius",
    "smoothing.sequential": "SequentialPlan",
    "attacks": "pgd ddn fgsm stein_gradients",
    "config": "Attack TrainConfig",
    "data.datasets": "load_dataset LabeledImages",
    "networks.models": "build_model",
    "store.run_folder": "load_run RESULTS",
    "store.checkpoints": "import_checkpoint",
    "store.logs": "read_log",
    "training.loop": "train train_to_end",
    "evaluate.settings": "CertifySettings AttackSettings",
    "evaluate.certify": "certify_dataset",
    "evaluate.attack": "attack_dataset",
    "report.tables": "certified_accuracy average_certified_radius upper_envelope",
    "errors": "InputError WorkError",
}
_HOME = {name: f"rslab.{module}" for module, names in _PLACES.items() for name in names.split()}
__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rslab' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
