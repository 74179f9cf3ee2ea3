"""What every explorer of the course must do when its sliders move."""

import statistics
import time

import ipywidgets

CONTROLS = ipywidgets.SelectionSlider | ipywidgets.Dropdown


def sweep(explorer, capsys) -> None:
    """Move each control to its low, middle and high value: labels fit, picture and numbers change, all comes back.

    The median time from slider to picture is printed, not asserted: the machine may be busy.
    """
    seconds = []
    controls = [child for child in explorer.children if isinstance(child, CONTROLS)]
    assert controls
    for control in controls:
        assert 6 * len(control.description) <= int(control.style.description_width.removesuffix("px"))
        values = [option[1] if isinstance(option, tuple) else option for option in control.options]
        before, start_view = control.value, _view(explorer)
        chosen, seen = {values[0], values[len(values) // 2], values[-1]}, set()
        for value in chosen:
            began = time.perf_counter()
            control.value = value
            seconds.append(time.perf_counter() - began)
            seen.add(_view(explorer))
        # A middle value may look like an end one (a curve the published grid does not have); two ends may not.
        assert len(seen) >= min(len(chosen), 2), control.description
        control.value = before
        assert _view(explorer) == start_view, control.description
    with capsys.disabled():
        print(f"\n{type(explorer).__name__}: slider to picture {1000 * statistics.median(seconds):.0f} ms (median)")


def _view(explorer) -> tuple[bytes, str]:
    return bytes(explorer.image.value), explorer.text.value
