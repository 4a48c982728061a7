// What all widgets share; widget.py puts it before each widget's own script, in one function that nothing leaks out of.

const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
const along = (p, t, d) => [p[0] + t * d[0], p[1] + t * d[1]];
const clip = (v, low, high) => Math.min(Math.max(v, low), high);
const unit = (d) => { const norm = Math.sqrt(dot(d, d)); return [d[0] / norm, d[1] / norm]; };

// Decimals, rounded half up, as widget.py rounds them; `minus` is the sign to write.
function fixed(value, digits, minus = "−") {
  const ten = 10 ** digits, n = Math.floor(Math.abs(value) * ten + 0.5 + 1e-6);
  const whole = Math.floor(n / ten), rest = String(n % ten).padStart(digits, "0");
  return (value < 0 && n > 0 ? minus : "") + whole + (digits ? "." + rest : "");
}

// The nodes that move, by data-part, and the controls, by data-input.
function parts(root) {
  const part = {}, input = {};
  for (const node of root.querySelectorAll("[data-part]")) part[node.dataset.part] = node;
  for (const node of root.querySelectorAll("[data-input]")) input[node.dataset.input] = node;
  return { part, input };
}

// Draw [part, attribute, value] and say [part, text]. A text that stays is left alone, so that it is not read out again.
function draw(part, scene, words) {
  for (const [name, attribute, value] of scene) {
    if (attribute === "text") part[name].textContent = value;
    else part[name].setAttribute(attribute, value);
  }
  for (const [name, text] of words) if (part[name].textContent !== text) part[name].textContent = text;
}

// Arrow keys on a handle: move([dx, dy], far) with y upwards, far where shift is held.
function arrows(handle, move) {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  handle.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    move(step, event.shiftKey);
  });
}

// A pointer on a picture: move(x, y) in the picture's own units. A mouse may grab anywhere in the picture. A finger drags
// the handle itself, so that the page still scrolls, or taps.
function drag(svg, handle, move) {
  const pointed = (event) => {
    const m = svg.getScreenCTM().inverse(), p = new DOMPoint(event.clientX, event.clientY).matrixTransform(m);
    move(p.x, p.y);
  };
  let held = null;
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || (event.pointerType === "touch" && !handle.contains(event.target))) return;
    held = event.pointerId;
    svg.setPointerCapture(held);
    event.preventDefault();
    handle.focus({ preventScroll: true });
    pointed(event);
  });
  svg.addEventListener("pointermove", (event) => { if (event.pointerId === held) pointed(event); });
  for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, () => { held = null; });
  svg.addEventListener("click", pointed);
  // Chromium scrolls away with a finger on a part of an SVG even where touch-action is none; this holds the page still.
  handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
}

// Start each widget of this name once, and let the boxes of its legend hide their layers.
function begin(name, start) {
  for (const root of document.querySelectorAll(`[data-widget="${name}"]:not([data-ready])`)) {
    for (const box of root.querySelectorAll("[data-layer]")) {
      const layer = () => root.querySelector(`[data-group="${box.dataset.layer}"]`).toggleAttribute("hidden", !box.checked);
      box.addEventListener("change", layer);
    }
    root.dataset.ready = "";
    start(root);
  }
}

