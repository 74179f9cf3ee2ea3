"""The command line: `rslab lab | demo | train | certify | attack | table | plot | reproduce | bench | data`.

Exit code 0 when the work is done, 2 for bad input, 1 for failed work: one sentence, no traceback.
A file a command, loaded when it is called: `rslab --help` needs no PyTorch.
"""

import os
import re
import sys
import unicodedata
from codecs import register_error
from difflib import get_close_matches
from errno import ENAMETOOLONG
from io import TextIOWrapper
from shutil import get_terminal_size
from typing import get_args

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    convert,
)
from cyclopts.help import DefaultFormatter, PanelSpec
from rich.box import Box
from rich.console import Console

from rslab.config import expected
from rslab.errors import InputError, WorkError
from rslab.machine import distributed

COMMANDS = {
    "lab": "Open the course in JupyterLab (on this computer only, with its token).",
    "demo": "Train two classifiers on digits, certify both, print the table, save the plot.",
    "train": "Train a classifier; by --method, from no noise at all to SmoothAdv.",
    "certify": "Certify test images: CERTIFY of Cohen et al., a row an image.",
    "attack": "Attack test images and let PREDICT judge the results, a row an image.",
    "table": "Certified accuracy at each radius and ACR, a row a model.",
    "plot": "Draw certified accuracy over the radius, a curve a log, with intervals.",
    "reproduce": "Carry out a recipe: train, certify, table. What is complete is skipped, the rest resumed.",
    "bench": "Time this implementation against the plain reference algorithm.",
    "data": "Show where the data sets are; --download fetches what is absent.",
}
EPILOGUES = {
    "lab": "It opens the kit, or the copy of the course, that the working directory lies in, else the installed one. "
    "What stands after -- goes to JupyterLab: rslab lab -- --port=9000",
}
GOING_ON = {
    **dict.fromkeys(("train", "certify", "attack"), "; the same command with --resume goes on"),
    **dict.fromkeys(("demo", "reproduce"), "; the same command goes on"),
}
IN_WORDS = {"−": "-", "–": "-", "→": "->", "←": "<-", "≤": "<=", "≥": ">=", "×": "x", "±": "+-", "²": "^2", "·": "*"}
IN_WORDS |= {"√": "sqrt", "∞": "inf", "∇": "grad", "‖": "||", "\u0302": "^", "ᵢ": "_i", "✓": "ok", "✗": "no", "’": "'"}
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "Storage size calculation overflowed")


def _shown(default) -> str | None:
    """What the help says of a default; None: nothing."""
    return None if default is None or default is False else str(default)


def _strictly(kind, tokens):
    """The value of an option, where the parser alone would make a whole number of 1.5, and nothing of "none"."""
    if int in (kind, *get_args(kind)):
        return int(tokens[0].value)
    if (value := convert(kind, tokens)) is None:
        raise ValueError
    return value


app = App(
    name="rslab",
    help="Randomized Smoothing Lab: train, attack and certify smoothed classifiers. "
    "σ, ε and radii are l2 distances for images in [0, 1]; papers that count ε in 1/255ths mean ε/255 here.",
    version_flags=[],
    help_format="plaintext",
    help_formatter=DefaultFormatter(panel_spec=PanelSpec(box=Box("    \n" * 8, ascii=True))),
    # of an option given twice the last counts, as everywhere: a script may end in the reader's own
    default_parameter=Parameter(
        negative=(), allow_repeating=True, show_default=_shown, converter=_strictly, json_list=False, json_dict=False
    ),
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `main` says how to go on
)
for order, (name, line) in enumerate(COMMANDS.items()):
    app.command(f"rslab.cli.{name}:{name}", name=name, help=line, help_epilogue=EPILOGUES.get(name), sort_key=order)


def main() -> None:
    """Run the command line; every expected mistake becomes one sentence."""
    words = _with_jupyters(sys.argv[1:] or ["--help"])
    for stream in (sys.stdout, sys.stderr):
        _make_printable(stream)
    console = Console(width=max(get_terminal_size().columns, 40))  # rich never ends where COLUMNS is 0
    try:
        with distributed.joined(words[0]):
            code = app(words, exit_on_error=False, print_error=False, console=console)
    except InputError as error:
        code = _say(error, 2)
    except CycloptsError as error:
        code = _say(_sentence(error, words), 2)
    except WorkError as error:
        code = _say(error, 1)
    except KeyboardInterrupt:
        code = _say(f"stopped{GOING_ON.get(words[0], '')}.", 130)
    except BrokenPipeError:  # `rslab table … | head`
        sys.stdout = None
        code = 1
    except OSError as error:
        name = str(error.filename or "file")[:80]
        code = _say(f"{name}: could not be used ({error.strerror or error}).", 2 if error.errno == ENAMETOOLONG else 1)
    except Exception as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in NO_MEMORY):
            raise  # a bug
        code = _say("memory: not enough for so much at a time; try a smaller --batch-size, --batch or --samples.", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _with_jupyters(words: list[str]) -> list[str]:
    """The words, with those after the -- of `rslab lab` as values of the option by which it passes them on."""
    if words[0] != "lab" or "--" not in words:
        return words
    at = words.index("--")
    return [*words[:at], *(f"--jupyterlab={word}" for word in words[at + 1 :])]


def _make_printable(stream) -> None:
    """Let everything be printed, whatever the stream's encoding.

    Windows writes to a pipe or a file in a code page of the last century, which the reader of that pipe (Git Bash,
    an editor, Python itself from 3.15 on) does not expect and which has no σ: UTF-8 it is. A console has every sign
    already. An encoding that was asked for, by PYTHONIOENCODING or by the locale of a POSIX system, stays: what it
    lacks is written in words ("sigma") where there is one, else as in Python ("\\u265e").
    """
    if not isinstance(stream, TextIOWrapper):
        return
    code_page = sys.platform == "win32" and not stream.isatty() and not os.environ.get("PYTHONIOENCODING")
    stream.reconfigure(encoding="utf-8" if code_page else None, errors="rslab.in_words")


def _in_words(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for one sign that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    greek = re.fullmatch("GREEK (SMALL|CAPITAL) LETTER ([A-Z]+)", unicodedata.name(sign, ""))
    alike = unicodedata.normalize("NFKD", sign).replace("⁄", "/")  # ⅓ is 1/3, … is ...
    if sign in IN_WORDS:
        word = IN_WORDS[sign]
    elif greek:
        word = greek[2].lower() if greek[1] == "SMALL" else greek[2].capitalize()
    else:
        word = alike if alike.isascii() else alike.encode("ascii", "backslashreplace").decode()
    return word, error.start + 1


register_error("rslab.in_words", _in_words)


def _sentence(error: CycloptsError, words: list[str]) -> str:
    """What the parser complains of, in our words."""
    command, argument, unused = " ".join(error.command_chain or ()), error.argument, error.unused_tokens
    if isinstance(error, UnknownCommandError):
        return f"command: got {words[0]!r}, expected one of {', '.join(COMMANDS)}."
    if isinstance(error, UnknownOptionError):
        option = (error.token.keyword or error.token.value).split("=")[0]
        if "--" in words[: [word.split("=")[0] for word in words].index(option)]:
            return f"got {option!r} after --, expected options before it."
        known = [name for other in error.argument_collection for name in other.names if name.startswith("--")]
        near = f" ({' or '.join(found)}?)" if (found := get_close_matches(option, known, 2, 0.7)) else ""
        own = "; JupyterLab's own stand after --" if command == "lab" else ""
        return f"{command}: got {option!r}, expected an option that `rslab {command} --help` shows{near}{own}."
    if isinstance(error, UnusedCliTokensError) and unused:
        return f"got {unused[0]!r}, expected no more words."
    if argument is None or not isinstance(error, CoercionError | MissingArgumentError):
        return " ".join(str(error).split())
    name, kind = argument.name.lstrip("-").replace("-", "_"), expected(argument.hint)
    if isinstance(error, CoercionError) and error.token:
        return f"{name}: got {error.token.value!r:.80}, expected {kind} for {argument.name}."
    if argument.name == name:  # a word
        return f"{name}: got none, expected `rslab {command} {name}`."
    dash = ", after = where it begins with a dash" if kind in ("text", "a path") else ""
    return f"{name}: got no value, expected {kind} for {argument.name}{dash}."


def _say(message, code: int) -> int:
    print(f"rslab: {message}", file=sys.stderr)
    return code
