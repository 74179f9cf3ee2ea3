"""Run by every kernel that `rslab lab` starts: a name that is not there yet is no reason for a traceback."""


def _explain_missing_name(shell, kind, error, traceback, tb_offset=None):
    print(
        f"✗ `{error.name}` is not defined yet: a cell above this one defines it. "
        "Choose Run ▸ Run All Above Selected Cell, then run this cell again."
    )


try:
    get_ipython().set_custom_exc((NameError,), _explain_missing_name)  # type: ignore  # noqa: F821  (IPython's)
except NameError:  # plain Python runs PYTHONSTARTUP too
    pass
