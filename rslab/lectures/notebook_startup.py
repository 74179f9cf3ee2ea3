"""Run by every kernel that `rslab lab` starts (PYTHONSTARTUP): errors are explained before the first cell was run."""

try:
    from rslab.lectures import kernel

    kernel.begin()
except ImportError:  # a kernel of another environment, whose first cell says so
    pass
