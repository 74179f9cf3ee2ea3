"""What the first cell of every notebook asks for: `kernel.begin(version="0.1.0")`.

Errors that a learner meets when a cell was left out or stopped are said in a sentence, and
settings of the account that the course relies on are set for this kernel. It is the same in
JupyterLab, Notebook, VS Code and a terminal's IPython, and imports nothing but Python itself.
"""

import builtins
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import rslab

if str(Path(__file__).parents[1]) not in rslab.__path__:
    # An editable installation finds this file even where another package, or a folder, took the name.
    raise ImportError(f"rslab is another project's here: {list(rslab.__path__)}")

STOPPED = (
    "✗ Stopped. Nothing is spoilt, and nothing is kept of what this cell was about to compute: "
    "run it again when you have the time."
)


def begin(version: str | None = None) -> None:
    """Prepare the kernel in which this runs; outside IPython, nothing. A second call changes nothing.

    version: of the package that the notebook was written for. Another one is said, and the notebook goes on.
    """
    if "IPython" not in sys.modules or (shell := sys.modules["IPython"].get_ipython()) is None:
        return
    if version not in (None, rslab.__version__):
        print(
            f"This notebook is of version {version} of the course, this kernel has rslab {rslab.__version__}: "
            "a cell may fail. `make lab` in the notebook's own folder opens it with its own package."
        )
    shell.set_custom_exc((NameError, KeyboardInterrupt), _explain)
    # an account may ask for every expression of a cell, and would see pictures twice
    shell.ast_node_interactivity = "last_expr"


def _explain(
    shell: Any, kind: type[BaseException], error: BaseException, traceback: TracebackType, tb_offset: int | None = None
) -> None:
    """Show the error as IPython does, but as one sentence where there is one. The cell has failed all the same."""
    sentence = STOPPED if isinstance(error, KeyboardInterrupt) else _missing_name(error, traceback, shell.user_ns)
    if sentence:
        error._render_traceback_ = lambda: [sentence]  # type: ignore[attr-defined]  # which IPython shows
    shell.showtraceback((kind, error, traceback), tb_offset=tb_offset, running_compiled_code=True)


def _missing_name(error: BaseException, traceback: TracebackType, notebook: dict[str, Any]) -> str | None:
    """The sentence for a name that the notebook's own code lacks; None for any other error."""
    name = getattr(error, "name", None)
    if type(error) is not NameError or not name or hasattr(builtins, name):
        return None
    while traceback.tb_next:
        traceback = traceback.tb_next
    if traceback.tb_frame.f_globals is not notebook:  # in a library: no cell can mend it
        return None
    return (
        f"✗ `{name}` is not defined yet. If a cell above this one defines it, run that cell to its end, "
        "then this one (in JupyterLab: Run ▸ Run All Above Selected Cell). If none does, the name has a slip."
    )
