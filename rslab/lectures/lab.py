"""Opening the course in JupyterLab, for a reader or on a projector, whatever their account has."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

from rslab.errors import WorkError
from rslab.lectures.course import found_from, kept_copy, projected, version_of, why_not_writable

COURSE = Path(__file__).resolve().parents[2] / "notebooks"
STARTUP = Path("rslab") / "lectures" / "notebook_startup.py"  # in a kit
SHARE = Path(__file__).resolve().parent / "jupyter"  # the kit's kernel: its environment's Python, pictures in the page

# JupyterLab's own settings, for a projector: letters that the last row can read.
LARGE_LETTERS = (
    '{"theme-scrollbars": false, "overrides": '
    '{"content-font-size1": "20px", "code-font-size": "18px", "ui-font-size1": "16px"}}'
)
IP = ("ip", "ServerApp.ip")


def course_folder() -> Path:
    """The folder of the notebooks; `WorkError` where rslab was installed without its clone."""
    if not COURSE.is_dir():
        raise WorkError(f"The course is not at {COURSE}, expected rslab installed by `pip install -e .` in its clone.")
    return COURSE


def open_lab(
    browser: bool = True, present: bool = False, work: Path | None = None, arguments: Sequence[str] = ()
) -> int:
    """Run JupyterLab on this computer only, with its token, until it is stopped; its exit code.

    It opens the course of the kit, or the kept copy, in which the working directory lies; else the installed one.

    `present`: on a copy of the course with the code hidden (a click on a cell's bar shows
    it) and large letters. The copy is deleted afterwards: nothing that is typed there stays.
    `work`: in a copy of the course in that folder, made there once. Where the course's own folder
    cannot be written this happens by itself, in the home folder.
    `arguments`: of JupyterLab; they win over those given here.
    """
    here = found_from(Path.cwd())
    kit = here.kit or course_folder().parent
    with ExitStack() as stack:

        def temporary() -> Path:
            folder = tempfile.TemporaryDirectory(prefix="rslab-lab-", ignore_cleanup_errors=True)
            return Path(stack.enter_context(folder))

        course, notes = _place(kit, work or here.copy, present)
        environment = _of_kernels(kit)
        folders, note = _of_jupyter(temporary)
        environment |= folders
        if present:
            folder = temporary()
            course = projected(course, folder / "notebooks")
            settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
            settings.mkdir(parents=True)
            (settings / "themes.jupyterlab-settings").write_text(LARGE_LETTERS, encoding="utf-8")
            environment["JUPYTERLAB_SETTINGS_DIR"] = str(folder / "settings")
        lines = [f"Course folder: {course}", *notes, note, "JupyterLab prints its address below; stop it with Ctrl-C."]
        print("\n".join(filter(None, lines)), flush=True)
        return _run(_arguments(course, browser, arguments), environment)


def _place(kit: Path, work: Path | None, present: bool) -> tuple[Path, list[str]]:
    """The folder to open, and what a reader should know of it."""
    course, notes = kit / "notebooks", []
    if not COURSE.is_dir() or not course.samefile(COURSE):
        notes.append(
            f"The package is that of {kit}; everything else is of another folder's environment, {sys.prefix}: "
            f"`make lab` in {kit} builds its own."
        )
    if work is None and not present and (why := why_not_writable(course)):
        home = Path(os.path.expanduser("~"))
        if home.is_dir() and not why_not_writable(home):
            work = home / "rslab-course"
            notes.append(f"{course} cannot be written ({why}): this is your own copy, in which you can save.")
        else:
            notes.append(
                f"{course} cannot be written ({why}), nor can {home}: nothing can be saved; "
                "`rslab lab --work DIR` works in a folder of your choice."
            )
    if work is not None:
        work = work.expanduser().absolute()
        notes.append(kept_copy(course, version_of(kit), work))
        course = work
    return course, notes


def _of_kernels(kit: Path) -> dict[str, str]:
    """The variables by which the kit's kernel opens with the kit's package, whatever the account has.

    Jupyter looks for kernels on JUPYTER_PATH first. A kernel looks for modules on PYTHONPATH before the
    folder of the notebook, in which a reader may keep an rslab.py.
    """
    startup = kit / STARTUP if (kit / STARTUP).is_file() else COURSE.parent / STARTUP
    return {
        "JUPYTER_PATH": _before("JUPYTER_PATH", SHARE),
        "PYTHONPATH": _before("PYTHONPATH", kit),
        "PYTHONSTARTUP": str(startup),
    }


def _before(variable: str, folder: Path) -> str:
    """The variable's list of folders with this one at its head."""
    return os.pathsep.join(filter(None, (str(folder), os.environ.get(variable))))


def _of_jupyter(temporary: Callable[[], Path]) -> tuple[dict[str, str], str]:
    """Other folders for what Jupyter, IPython and matplotlib write in the home, where that fails, and a sentence."""
    from jupyter_core import paths

    home = Path(os.path.expanduser("~"))
    xdg = [Path(os.environ.get(f"XDG_{kind}_HOME") or home / f".{kind.lower()}") for kind in ("CONFIG", "CACHE")]
    places: dict[str, list] = {
        "JUPYTER_CONFIG_DIR": [paths.jupyter_config_dir()],
        "JUPYTER_DATA_DIR": [paths.jupyter_data_dir()],
        "JUPYTER_RUNTIME_DIR": [paths.jupyter_runtime_dir()],
        "IPYTHONDIR": [os.environ.get("IPYTHONDIR") or home / ".ipython"],
        "MPLCONFIGDIR": [os.environ["MPLCONFIGDIR"]] if os.environ.get("MPLCONFIGDIR") else xdg,
    }
    whys = {
        variable: (folder, why)
        for variable, folders in places.items()
        for folder in folders
        if (why := why_not_writable(Path(folder).absolute()))
    }
    if not whys:
        return {}, ""
    folder, why = next(iter(whys.values()))
    note = f"{folder} cannot be written ({why}): settings and caches are kept until the end in a temporary folder."
    root = temporary()
    found = {variable: root / variable.lower() for variable in whys}
    for place in found.values():
        place.mkdir()
    return {variable: str(place) for variable, place in found.items()}, note


def _arguments(course: Path, browser: bool, given: Sequence[str]) -> list[str]:
    """What JupyterLab is started with: ours, but for what the reader says otherwise (it takes no option twice)."""
    ours = {
        ("notebook-dir", "ServerApp.root_dir", "ServerApp.notebook_dir"): str(course),
        IP: "127.0.0.1",
        ("LabApp.news_url",): "None",
        # an account's configuration may look for kernels elsewhere, or allow others only
        ("ServerApp.kernel_spec_manager_class",): "jupyter_client.kernelspec.KernelSpecManager",
        ("KernelSpecManager.allowed_kernelspecs",): "python3",
    }
    words = [f"--{names[0]}={value}" for names, value in ours.items() if _given(names, given) is None]
    if not browser:
        words.append("--no-browser")
    # in a container everyone is root, and nobody else can reach this computer's own address
    if getattr(os, "geteuid", lambda: 1)() == 0 and _is_loopback(_given(IP, given) or ours[IP]):
        words.append("--allow-root")
    return [*words, *given]


def _given(names: Sequence[str], words: Sequence[str]) -> str | None:
    """The value of an option among JupyterLab's: --name=value or --name value."""
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.startswith("-") and name.lstrip("-") in names:
            return value if equals else "".join(words[position + 1 : position + 2])
    return None


def _is_loopback(ip: str) -> bool:
    """Whether only this computer itself can reach the address."""
    try:
        return ip_address(ip).is_loopback
    except ValueError:
        return ip == "localhost"


def _run(arguments: list[str], environment: dict[str, str]) -> int:
    """JupyterLab in this very process, so that nothing goes on serving when it ends, however it is ended.

    Ctrl-C and SIGTERM are JupyterLab's own, as soon as it serves; a closed window (SIGHUP) is to end it as cleanly.
    """
    os.environ.update(environment)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup and signal.getsignal(hangup) is not signal.SIG_IGN:  # as under nohup
        signal.signal(hangup, lambda *_: signal.raise_signal(signal.SIGTERM))
    from jupyterlab.labapp import LabApp

    LabApp.launch_instance(arguments)
    return 0
