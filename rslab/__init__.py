"""rslab: train, attack and certify smoothed classifiers, and see why it works."""

__version__ = "0.1.0"
