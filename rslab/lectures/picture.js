// The browser's half of rslab/lectures/picture.py. Kernel to page: the picture and its alt text. Page to kernel:
// where the picture is dragged, and now and then the question whether anyone is still there.

const PATIENCE_MS = 700; // a redraw takes under 100 ms; after this long without one, the kernel is asked
const LIMIT_MS = 1500; // an idle kernel answers within 50 ms
const GONE = "▶ run this cell again: no kernel answers";
const FIELDS = "select, textarea, input:not([type=radio], [type=checkbox]), [contenteditable]";
const BUSY = "the kernel is busy with another cell: what was moved here follows when that is done";

function make(kind, className, parent) {
  const node = document.createElement(kind);
  node.className = className;
  parent.append(node);
  return node;
}

function widgetPicture(model, el) {
  const frame = make("div", "rslab-frame", el);
  const image = make("img", "widget-image", frame);
  image.draggable = false;
  let shown = null;
  const draw = () => {
    const last = shown;
    shown = URL.createObjectURL(new Blob([model.get("value")], { type: "image/png" }));
    image.src = shown; // the page keeps the last picture until this one is decoded
    if (last) URL.revokeObjectURL(last);
  };
  const describe = () => (image.alt = model.get("alt"));
  const size = () => {
    image.width = model.get("width"); // the picture has twice as many pixels
    image.height = model.get("height");
    frame.style.width = `${model.get("width")}px`;
  };
  draw(), describe(), size();
  model.on("change:value", draw);
  model.on("change:alt", describe);
  model.on("change:width change:height", size);

  // One drag message at a time: the latest place waits until the picture has followed the last one.
  let waiting = null, free = true, since = 0;
  const tell = (grip, event) => {
    const area = image.getBoundingClientRect();
    waiting = [grip, (event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height];
    next();
  };
  const next = () => {
    if (!waiting || !(free || Date.now() - since > LIMIT_MS)) return;
    const drag = waiting;
    [waiting, free, since] = [null, false, Date.now()];
    model.send({ drag });
  };
  model.on("msg:custom", (message) => {
    if ("dragged" in message) (free = true), next();
  });
  const grips = () => {
    for (const old of frame.querySelectorAll(".rslab-grip")) old.remove();
    model.get("grips").forEach(([left, top, width, height], index) => {
      const grip = make("div", "rslab-grip", frame);
      grip.title = "drag here";
      const places = { left, top, width, height };
      for (const side in places) grip.style[side] = `${100 * places[side]}%`;
      grip.onpointerdown = (event) => {
        if (event.button) return;
        event.preventDefault(); // no selection of text on the way
        grip.setPointerCapture(event.pointerId);
        tell(index, event);
      };
      grip.onpointermove = (event) => grip.hasPointerCapture(event.pointerId) && tell(index, event);
    });
  };
  grips();
  model.on("change:grips", grips);
  return () => URL.revokeObjectURL(shown);
}

// A slider or a drag that nothing follows says so. Any message from the kernel is an answer.
function watchKernel(model, el) {
  const note = make("div", "rslab-note", el);
  note.setAttribute("role", "status");
  let timer = null;
  const heard = () => {
    clearTimeout(timer);
    timer = null;
    note.textContent = "";
  };
  const silent = () => {
    timer = null;
    const kernel = model.widget_manager?.kernel; // JupyterLab and Notebook 7 tell; elsewhere nobody does
    note.textContent = kernel?.status === "busy" ? BUSY : GONE;
  };
  const ask = () => {
    timer = setTimeout(silent, LIMIT_MS);
    try {
      model.send({ ask: true });
    } catch {
      heard(), silent();
    }
  };
  model.on("change:value msg:custom", heard);
  return () => {
    if (el.closest(".jupyter-widgets-disconnected")) heard(), silent(); // the front end knows it already
    else timer ??= setTimeout(ask, PATIENCE_MS);
  };
}

// What is typed at a slider is meant for the slider: "d d" would delete the cell. Shift + Enter and Ctrl + … pass.
function keepsKey(event) {
  const forJupyter = event.ctrlKey || event.metaKey || event.altKey || (event.key === "Enter" && event.shiftKey);
  return !forJupyter && event.key !== "Escape";
}

// A slider's handle is what a screen reader meets: it gets the slider's name, and the value that is shown.
function nameSliders(box) {
  for (const slider of box.querySelectorAll(".widget-slider, .widget-hslider")) {
    const handle = slider.querySelector(".noUi-handle");
    const said = {
      "aria-label": slider.querySelector(".widget-label")?.textContent,
      "aria-valuetext": slider.querySelector(".widget-readout")?.textContent,
    };
    for (const name in said) {
      if (handle && said[name] && handle.getAttribute(name) !== said[name]) handle.setAttribute(name, said[name]);
    }
  }
}

function render({ model, el }) {
  el.classList.add("rslab-picture");
  const forget = model.get("value").byteLength ? widgetPicture(model, el) : () => {};
  const touched = watchKernel(model, el);
  const named = new MutationObserver(() => nameSliders(box));
  let box = null;
  // Notebook 7 hears a key before the slider does, on its way down, and leaves alone what is prevented: no handle and
  // no letter outside a field has a default of its own that would be missed.
  const suppress = (event) => {
    if (!box?.contains(event.target) || !keepsKey(event)) return;
    const letter = event.key.length === 1 && event.key !== " " && !event.target.matches(FIELDS);
    if (letter || event.target.matches(".noUi-handle")) event.preventDefault();
  };
  window.addEventListener("keydown", suppress, true);
  // The box around is known once this element is in the page.
  const found = new ResizeObserver(() => {
    const around = el.closest(".rslab-box");
    if (!around || around === box) return;
    box = around;
    box.addEventListener("keydown", (event) => keepsKey(event) && event.stopPropagation());
    for (const kind of ["keydown", "pointerdown", "pointermove", "change"]) {
      box.addEventListener(kind, (event) => (kind !== "pointermove" || event.buttons) && touched());
    }
    const attributes = { attributes: true, attributeFilter: ["aria-valuetext"] };
    named.observe(box, { subtree: true, childList: true, characterData: true, ...attributes });
    nameSliders(box);
  });
  found.observe(el);
  return () => {
    window.removeEventListener("keydown", suppress, true);
    found.disconnect();
    named.disconnect();
    forget();
  };
}

export default { render };
