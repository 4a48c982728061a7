// The rollout's twin: `roll`, `scene` and `words` say in JavaScript what rollout.py says in Python, in the same order of
// operations. tests/widgets compares the two on random states. widget.js stands before this in the page.
const REACH = 1.75, SCALE = 120, HALF = 240, GRID = 64, STEPS = 60, DONE = 1e-13, TOP = 1, BOTTOM = -9;
const LONG = [0.8, 0.6], SHORT = [-0.6, 0.8];
const CORNERS = {
  pentagon: [[-0.875, 0.5], [-0.5, -0.875], [0.625, -0.75], [1, 0.375], [0.125, 1]],
  triangle: [[-1, -0.625], [1, -0.625], [0.125, 1]],
  diamond: [[-1, 0], [0, -1], [1, 0], [0, 1]],
  square: [[-0.75, -0.75], [0.75, -0.75], [0.75, 0.75], [-0.75, 0.75]],
};
const VARIANTS = { vanilla: "vanilla", away: "away steps", pairwise: "pairwise", softmax: "softmax oracle" };

function gradient(x, y, stretch) {
  const d = along(x, -1, y), a = stretch * dot(LONG, d), b = dot(SHORT, d);
  return [a * LONG[0] + b * SHORT[0], a * LONG[1] + b * SHORT[1]];
}
function curvature(d, stretch) {
  const a = dot(LONG, d), b = dot(SHORT, d);
  return stretch * a * a + b * b;
}
const value = (x, y, stretch) => 0.5 * curvature(along(x, -1, y), stretch);
const mean = (weights, corners) => corners.reduce((x, corner, i) => along(x, weights[i], corner), [0, 0]);

// How much of a coordinate's weight a corner of the L1 ball has, if the corner across has the other score.
const share = (score, other) => score === other ? 0.5 : score < other ? 1 : 0;

function run(corners, y, variant, beta, stretch) {
  const m = corners.length, found = [];
  let weights = corners.map((_, i) => (i === 0 ? 1 : 0));
  for (let k = 0; k <= STEPS; k++) {
    const x = mean(weights, corners), g = gradient(x, y, stretch), scores = corners.map((c) => dot(g, c));
    const corner = scores.indexOf(Math.min(...scores));
    const gap = Math.max(dot(g, along(x, -1, corners[corner])), 0);
    let toward = corners.map((_, i) => (i === corner ? 1 : 0));
    if (variant === "softmax") {
      let sizes = scores.map((score) => Math.exp(beta * (scores[corner] - score)));
      if (corners === CORNERS.diamond) sizes = sizes.map((size, i) => size * share(scores[i], scores[(i + 2) % 4]));
      const total = sizes.reduce((a, b) => a + b, 0);
      toward = sizes.map((size) => size / total);
    }
    let away = -1;
    for (let i = 0; i < m; i++) if (weights[i] > 0 && (away < 0 || scores[i] > scores[away])) away = i;
    let move = toward.map((t, i) => t - weights[i]), longest = 1, kind = `towards ${corner + 1}`, left = -1;
    if (variant === "away" && dot(g, along(corners[away], -1, x)) > gap) {
      move = weights.map((w, i) => w - (i === away ? 1 : 0));
      longest = weights[away] / (1 - weights[away]); kind = `away from ${away + 1}`; left = away;
    }
    if (variant === "pairwise") {
      move = toward.map((t, i) => t - (i === away ? 1 : 0));
      longest = weights[away]; kind = `from ${away + 1} to ${corner + 1}`; left = away;
    }
    const d = mean(move, corners), curve = variant === "softmax" ? stretch * dot(d, d) : curvature(d, stretch);
    const gamma = curve > 0 && gap > DONE ? Math.min(Math.max(-dot(g, d) / curve, 0), longest) : 0;
    if (variant === "softmax") kind = "towards the mean";
    if (gap <= DONE) kind = "none: done";
    found.push({ x, gap, corner, away: left, target: along(x, 1, d), kind });
    weights = weights.map((w, i) => w + gamma * move[i]);
    if (left >= 0 && gamma === longest) weights[left] = 0;
  }
  return found;
}

const edges = (corners) => corners.map((a, i) => [a, corners[(i + 1) % corners.length]]);
function violation(corners, p) {
  let worst = 0;
  for (const [a, b] of edges(corners)) {
    const d = along(b, -1, a);
    worst = Math.max(worst, ((p[0] - a[0]) * d[1] - (p[1] - a[1]) * d[0]) / Math.sqrt(dot(d, d)));
  }
  return worst < 1e-12 ? 0 : worst;
}
function minimiser(corners, y, stretch) {
  if (violation(corners, y) === 0) return y.slice();
  let best = corners[0], least = Infinity;
  for (const [a, b] of edges(corners)) {
    const d = along(b, -1, a), t = clip(-dot(gradient(a, y, stretch), d) / curvature(d, stretch), 0, 1);
    const x = along(a, t, d);
    if (value(x, y, stretch) < least) { best = x; least = value(x, y, stretch); }
  }
  return best;
}
function lambert(z) {
  let w = Math.log(1 + z);
  for (let i = 0; i < 30; i++) { const e = Math.exp(w); w = w - (w * e - z) / (e * (w + 1)); }
  return w;
}

function roll(shape, variant, y, step, cold, stretch) {
  const corners = CORNERS[shape], beta = 2 ** cold, runs = {}, gaps = {};
  for (const name in VARIANTS) {
    runs[name] = run(corners, y, name, beta, stretch);
    gaps[name] = runs[name].map((one) => one.gap);
  }
  const here = runs[variant][step], solution = minimiser(corners, y, stretch);
  const now = value(here.x, y, stretch), least = value(solution, y, stretch);
  return {
    shape, variant, y: y.slice(), step, cold, beta, stretch, x: here.x,
    path: runs[variant].slice(0, step + 1).map((one) => one.x), gap: here.gap, error: Math.max(now - least, 0),
    solution, value: now, least, violation_y: violation(corners, y), violation_x: violation(corners, here.x),
    corner: here.corner, away: here.away, target: here.target, kind: here.kind, gaps,
    bound: lambert(((shape === "diamond" ? 2 : corners.length) - 1) / Math.E) / beta,
  };
}

// What is drawn: [part, attribute, value] for every part that moves.
const put = (p) => `${fixed(HALF + SCALE * p[0], 1, "-")} ${fixed(HALF - SCALE * p[1], 1, "-")}`;
const path = (points, end = "") => points.length ? "M" + points.map(put).join("L") + end : "";
function level(y, height, stretch) {
  if (height < 1e-9) return "";
  const long = Math.sqrt(2 * height / stretch), short = Math.sqrt(2 * height);
  const a = put(along(y, -long, LONG)), b = put(along(y, long, LONG));
  const axes = `${fixed(SCALE * long, 1)} ${fixed(SCALE * short, 1)} -36.87`;
  return `M${a}A${axes} 1 0 ${b}A${axes} 1 0 ${a}Z`;
}
function chart(k, height) {
  const power = clip(Math.log10(Math.max(height, 1e-30)), BOTTOM, TOP);
  return `${fixed(46 + 7 * k, 1)} ${fixed(14 + 18 * (TOP - power), 1)}`;
}
function small(number) {
  if (number >= 0.0995) return fixed(number, 3);
  if (number < 1e-12) return "0";
  let power = 0, digit = number;
  while (digit < 0.95) { digit = digit * 10; power = power + 1; }
  return `${fixed(digit, 1)}·10⁻${[...String(power)].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]).join("")}`;
}
const below = (number) => [...String(number)].map((c) => "₀₁₂₃₄₅₆₇₈₉"[c]).join("");

// A corner's number stands just outside of it; the origin is inside of every shape.
function number(corners, i) {
  const name = `number-${i + 1}`, there = i < corners.length, p = there ? corners[i] : [0, 0];
  const [left, top] = put(along(p, there ? 0.2 / Math.sqrt(dot(p, p)) : 0, p)).split(" ");
  return [[name, "x", left], [name, "y", top], [name, "text", there ? String(i + 1) : ""]];
}

function scene(state) {
  const { y, x, step, stretch } = state, corners = CORNERS[state.shape], soft = state.variant === "softmax";
  const spot = put([clip(y[0], -1.1, 1.1), y[1] + ((y[1] >= 0 && y[1] < 1.5) || y[1] < -1.5 ? 0.22 : -0.32)]).split(" ");
  const away = state.away >= 0 ? [corners[state.away]] : [], moving = state.gap > DONE, off = "translate(-99 -99)";
  const lines = Object.entries(state.gaps).map(([name, gaps]) => [`line-${name}`, "d", "M" + gaps.map((v, k) => chart(k, v)).join("L")]);
  return [
    ["set", "d", path(corners, "Z")],
    ...[0, 1, 2, 3, 4].flatMap((i) => number(corners, i)),
    ["level", "d", level(y, state.value, stretch)],
    ["best-level", "d", level(y, state.least, stretch)],
    ["ray", "d", moving ? path([x, state.target]) : ""],
    ["from", "d", away.length && moving ? path([...away, x]) : ""],
    ["path", "d", path(state.path)],
    ["dots", "d", state.path.map((p) => path([p]) + "h0").join("")],
    ["solution", "transform", `translate(${put(state.solution)})`],
    ["corner", "transform", `translate(${put(corners[state.corner])})`],
    ["away", "transform", away.length ? `translate(${put(away[0])})` : off],
    ["soft", "transform", soft ? `translate(${put(state.target)})` : off],
    ["x", "transform", `translate(${put(x)})`],
    ["y", "transform", `translate(${put(y)})`],
    ["label-y", "x", spot[0]],
    ["label-y", "y", spot[1]],
    ["label-y", "text", `y: off by ${fixed(state.violation_y, 3)}` + (state.violation_y === 0 ? " (allowed)" : "")],
    ...lines,
    ["now", "d", `M${fixed(46 + 7 * step, 1)} 14V194`],
    ["here", "transform", `translate(${chart(step, state.gap)})`],
    ["floor", "d", soft ? `M46 ${chart(0, state.bound).split(" ")[1]}H466` : ""],
  ];
}

// What is said: [part, text].
function words(state) {
  const pair = (p) => `(${fixed(p[0], 2)},\u00a0${fixed(p[1], 2)})`, name = `x${below(state.step)}`;
  const bound = state.variant === "softmax" ? `; the softmax oracle alone may leave ${small(state.bound)}` : "";
  return [
    ["tile-y", fixed(state.violation_y, 3)],
    ["tile-x", fixed(state.violation_x, 3)],
    ["tile-gap", small(state.gap)],
    ["tile-error", small(state.error)],
    ["said-step", `${state.step} of ${STEPS}, ${VARIANTS[state.variant]}`],
    ["said-points", `${name} = ${pair(state.x)},  solution\u00a0=\u00a0${pair(state.solution)}`],
    ["said-violation", `y ${fixed(state.violation_y, 3)},  ${name} ${fixed(state.violation_x, 3)}`],
    ["said-next", `the oracle points at corner ${state.corner + 1}; next step: ${state.kind}`],
    ["said-gap", `${small(state.gap)}, never less than the error ${small(state.error)}${bound}`],
  ];
}

function start(root) {
  const state = JSON.parse(root.dataset.state), { part, input } = parts(root), svg = root.querySelector("svg");

  function show() {
    const found = roll(state.shape, state.variant, state.y, state.step, state.cold, state.stretch);
    draw(part, scene(found), words(found));
    root.dataset.variant = state.variant;
    root.dataset.feasible = String(found.violation_y === 0);
    part.y.setAttribute("aria-valuenow", fixed(state.y[0], 2, "-"));
    part.y.setAttribute("aria-valuetext", `y₁ ${fixed(state.y[0], 2)}, y₂ ${fixed(state.y[1], 2)}`);
    [input.y1.value, input.y2.value] = state.y;
    for (const name of ["shape", "variant", "step", "cold", "stretch"]) input[name].value = state[name];
    const shown = [["y1", fixed(state.y[0], 2)], ["y2", fixed(state.y[1], 2)], ["step", String(state.step)],
      ["cold", fixed(found.beta, 0)], ["stretch", fixed(state.stretch, 0)]];
    for (const [name, text] of shown) part["value-" + name].textContent = text;
    root.dataset.state = JSON.stringify(state);
  }
  function move(y) {
    state.y = y.map((v) => clip(Math.round(v * GRID) / GRID, -REACH, REACH));
    show();
  }
  input.y1.addEventListener("input", () => move([Number(input.y1.value), state.y[1]]));
  input.y2.addEventListener("input", () => move([state.y[0], Number(input.y2.value)]));
  for (const name of ["step", "cold", "stretch"])
    input[name].addEventListener("input", () => { state[name] = Number(input[name].value); show(); });
  for (const name of ["shape", "variant"])
    input[name].addEventListener("change", () => { state[name] = input[name].value; show(); });
  arrows(part.y, (step, far) => move(along(state.y, far ? 1 / 4 : 1 / 16, step)));
  drag(svg, part.y, (x, y) => move([(x - HALF) / SCALE, (HALF - y) / SCALE]));

  root.roll = roll;
  root.scene = scene;
  root.words = words;
  show();
}

begin("rollout", start);
