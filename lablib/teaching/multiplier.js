// The twin of multiplier.py: `look`, `scene` and `words` say in JavaScript what it says in Python, so that the picture
// moves with no kernel. tests/widgets compares the two on random states.
const ROW = [1, 0.5], REACH = 4, FAR = 100, STEP = 1 / 16, MET = 5e-4;
const WIDE = 480, HIGH = 280, EDGE = 20, DEEPEST = 6, FLATTEST = 1;
const REACHED = {
  identity: [-Infinity, Infinity], sigmoid: [0, 1.5], tanh: [-1.5, 1.5], softmax: [0.5, 1],
  relu: [0, Infinity], exp: [0, Infinity],
};
const WINDOW = {
  identity: [-1.25, 2.25], sigmoid: [-0.1, 1.15], tanh: [-1.15, 1.15], softmax: [-0.1, 1.15],
  relu: [-0.25, 2.5], exp: [-0.25, 2.5],
};

// One coordinate of a separable link: phi, its slope, its curvature.
function part(link, s) {
  if (link === "identity") return [s * s / 2, s, 1];
  if (link === "relu") return [Math.max(s, 0) ** 2 / 2, Math.max(s, 0), s > 0 ? 1 : 0];
  if (link === "exp") { const e = Math.exp(s); return [e, e, e]; }
  const e = Math.exp(-Math.abs(s));
  if (link === "sigmoid") return [Math.max(s, 0) + Math.log1p(e), (s >= 0 ? 1 : e) / (1 + e), e / (1 + e) ** 2];
  return [Math.abs(s) + Math.log1p(e * e) - Math.log(2), Math.tanh(s), 4 * e * e / (1 + e * e) ** 2];
}

// phi(u + t a), its gradient z, and a.Hess a.
function curve(link, u, t) {
  const s = u.map((v, k) => v + t * ROW[k]);
  if (link === "softmax") {
    const top = Math.max(...s), weights = s.map((v) => Math.exp(v - top)), total = weights[0] + weights[1];
    const z = weights.map((w) => w / total), mean = dot(ROW, z);
    return [top + Math.log(total), z, z[0] * (ROW[0] - mean) ** 2 + z[1] * (ROW[1] - mean) ** 2];
  }
  const [first, second] = s.map((v) => part(link, v));
  return [
    first[0] + second[0], [first[1], second[1]],
    first[2] * ROW[0] * ROW[0] + second[2] * ROW[1] * ROW[1],
  ];
}

// The dual's slope rises, so its root is found by halving an interval.
function minimiser(link, u, b) {
  let low = -1, high = 1;
  while (dot(ROW, curve(link, u, low)[1]) > b) low *= 2;
  while (dot(ROW, curve(link, u, high)[1]) < b) high *= 2;
  for (let i = 0; i < 100; i += 1) {
    const middle = (low + high) / 2;
    if (dot(ROW, curve(link, u, middle)[1]) < b) low = middle; else high = middle;
  }
  return (low + high) / 2;
}

function look(link, u, b, multiplier) {
  const [low, high] = REACHED[link];
  const status = low < b && b < high ? "inside" : b === low || b === high ? "edge" : "outside";
  let best = null;
  if (status === "inside") best = minimiser(link, u, b);
  else if (link === "relu" && b === 0) best = -Math.max(u[0], 2 * u[1]);
  const [value, z, curvature] = curve(link, u, multiplier), slope = dot(ROW, z) - b;
  const step = curvature > 1e-12 ? multiplier - slope / curvature : multiplier;
  return {
    link, u: u.slice(), b, multiplier, logits: u.map((v, k) => v + multiplier * ROW[k]), raw: curve(link, u, 0)[1], z,
    slope, violation: Math.abs(slope), dual: value - b * multiplier, curvature, low, high, status, best,
    newton: clip(step, -FAR, FAR),
  };
}

// What is drawn: [part, attribute, value] for every part that moves.
const GRID = Array.from({ length: 65 }, (_, i) => (i - 32) / 8);
const put = (p) => `${fixed(p[0], 1, "-")} ${fixed(p[1], 1, "-")}`;
const path = (points, end = "") => points.length ? "M" + points.map(put).join("L") + end : "";

function plane(link, z) {
  const [low, high] = WINDOW[link], scale = HIGH / (high - low), middle = (low + high) / 2;
  return [WIDE / 2 + scale * (z[0] - middle), HIGH / 2 - scale * (z[1] - middle)];
}
const dualAt = (t, value, window) => [
  WIDE / 2 + (WIDE / 2 - EDGE) / REACH * t, Math.max(HIGH - HIGH * (value - window[0]) / window[1], -500)];

function scene(state) {
  const { link, u, b, multiplier: t, z, slope } = state;
  const points = GRID.map((s) => curve(link, u, s)), values = points.map(([value], i) => value - b * GRID[i]);
  const least = Math.min(...values), span = clip(Math.max(...values) - least, FLATTEST, DEEPEST);
  const window = [least - 0.15 * span, 1.2 * span];
  const spot = (p) => plane(link, p).map((v) => clip(v, -2000, 3000));
  const from = Math.min(t, 0), to = Math.max(t, 0);
  const walked = [from, ...GRID.filter((s) => from < s && s < to), to];
  const foot = z.map((v, k) => v - slope / 1.25 * ROW[k]);
  const area = (...corners) => path(corners.map((p) => plane(link, p)), corners.length > 2 ? "Z" : "");
  const domain = {
    sigmoid: () => area([0, 0], [1, 0], [1, 1], [0, 1]), tanh: () => area([-1, -1], [1, -1], [1, 1], [-1, 1]),
    softmax: () => area([1, 0], [0, 1]), relu: () => area([0, 9], [0, 0], [9, 0], [9, 9]),
    exp: () => area([0, 9], [0, 0], [9, 0], [9, 9]), identity: () => "",
  }[link]();
  const here = dualAt(t, state.dual, window), tilt = slope / window[1] * HIGH / ((WIDE / 2 - EDGE) / REACH);
  const reach = 70 / Math.sqrt(1 + tilt * tilt);
  here[1] = Math.max(here[1], 9); // a hand above the picture is shown at its upper edge
  let best = "";
  if (state.best !== null && Math.abs(state.best) <= REACH) {
    const lowest = dualAt(state.best, curve(link, u, state.best)[0] - b * state.best, window);
    best = path([[lowest[0], HIGH], lowest]);
  }
  const atZ = spot(z);
  const label = [clip(atZ[0], 105, WIDE - 105), clip(atZ[1] + (atZ[1] < 60 ? 36 : -20), 24, HIGH - 12)];
  const said = [clip(here[0], 95, WIDE - 95), clip(here[1] + (here[1] < 60 ? 40 : -22), 24, HIGH - 12)];
  return [
    ["domain", "d", domain],
    ["line", "d", path([plane(link, [b - 5, 10]), plane(link, [b + 5, -10])])],
    ["track", "d", path(points.map(([, p]) => spot(p)))],
    ["walked", "d", path(walked.map((s) => spot(curve(link, u, s)[1])))],
    ["reach", "d", path([atZ, spot(foot)])],
    ["raw", "transform", `translate(${put(spot(state.raw))})`],
    ["z", "transform", `translate(${put(atZ)})`],
    ["label-z", "x", fixed(label[0], 1, "-")], ["label-z", "y", fixed(label[1], 1, "-")],
    ["label-z", "text", `z: off by ${fixed(state.violation, 3)}`],
    ["dual", "d", path(values.map((value, i) => dualAt(GRID[i], value, window)))],
    ["tangent", "d", path([[here[0] - reach, here[1] + reach * tilt], [here[0] + reach, here[1] - reach * tilt]])],
    ["best", "d", best],
    ["hand", "transform", `translate(${put(here)})`],
    ["label-hand", "x", fixed(said[0], 1, "-")], ["label-hand", "y", fixed(said[1], 1, "-")],
    ["label-hand", "text", `slope ${fixed(slope, 3)}`],
  ];
}

// What is said: [part, text] for every line of the read-out.
function words(state) {
  const { b, status, best, low, high } = state, pair = (p) => `(${fixed(p[0], 2)},\u00a0${fixed(p[1], 2)})`;
  const way = b >= high ? "+∞" : "−∞";
  let least;
  if (status === "inside") least = `at λ = ${fixed(best, 3)}${Math.abs(best) <= REACH ? "" : ", beyond the picture"}; there z meets the line`;
  else if (best !== null) least = `at every λ up to ${fixed(best, 3)}: z is held at its bound, the multiplier is not unique`;
  else if (status === "edge") least = `none: b is on the edge of what z can reach; z comes nearer for ever as λ → ${way}`;
  else {
    const from = low === -Infinity ? "−∞" : fixed(low, 1), to = high === Infinity ? "+∞" : fixed(high, 1);
    least = `none: b is out of reach, z₁ + z₂/2 stays between ${from} and ${to}; the dual falls for ever as λ → ${way}`;
  }
  const far = Math.abs(state.newton) >= FAR ? ", or further" : "";
  const leap = Math.abs(state.newton) <= REACH ? ""
    : `; a full Newton step leads to λ = ${fixed(state.newton, 1)}${far}, off the scale: the button stays`;
  return [
    ["violation", fixed(state.violation, 3)],
    ["height", fixed(state.dual, 3)],
    ["hand-value", `λ = ${fixed(state.multiplier, 3)}`],
    ["logits", `u + λa = ${pair(state.logits)}, without λ ${pair(state.u)}`],
    ["prediction", `z = ${pair(state.z)}, without λ ${pair(state.raw)}`],
    ["sum", `z₁ + z₂/2 = ${fixed(dot(ROW, state.z), 3)}, demanded ${fixed(b, 3)}`],
    ["slope", `${fixed(state.slope, 3)}, the same as z₁ + z₂/2 − b`],
    ["curvature", fixed(state.curvature, 3) + leap],
    ["minimum", least],
  ];
}

function start(root) {
  const state = JSON.parse(root.dataset.state), { part, input } = parts(root);

  function show() {
    const found = look(state.link, state.u, state.b, state.multiplier);
    draw(part, scene(found), words(found));
    root.dataset.feasible = String(found.violation < MET);
    part.hand.setAttribute("aria-valuenow", fixed(state.multiplier, 3, "-"));
    part.hand.setAttribute("aria-valuetext", `λ ${fixed(state.multiplier, 3)}`);
    for (const [name, value] of [["multiplier", state.multiplier], ["u1", state.u[0]], ["u2", state.u[1]], ["b", state.b]]) {
      input[name].value = value;
      part["value-" + name].textContent = fixed(value, 3);
    }
    input.link.value = state.link;
    root.dataset.state = JSON.stringify(state);
  }
  // On the grid, except that within half a step of the minimum the hand lies on it: so it can be hit.
  function move(multiplier) {
    const grid = clip(Math.round(multiplier / STEP) * STEP, -REACH, REACH);
    const { best } = look(state.link, state.u, state.b, grid);
    state.multiplier = best !== null && Math.abs(best - grid) < STEP / 2 - 1e-9 ? clip(best, -REACH, REACH) : grid;
    show();
  }

  input.multiplier.addEventListener("input", () => move(Number(input.multiplier.value)));
  for (const name of ["u1", "u2", "b"]) input[name].addEventListener("input", () => {
    state.u = [Number(input.u1.value), Number(input.u2.value)];
    state.b = Number(input.b.value);
    show();
  });
  input.link.addEventListener("change", () => { state.link = input.link.value; show(); });
  input.newton.addEventListener("click", () => {
    const { newton } = look(state.link, state.u, state.b, state.multiplier);
    if (Math.abs(newton) <= REACH) state.multiplier = newton;
    show();
  });
  arrows(part.hand, (step, far) => move(state.multiplier + (step[0] + step[1]) * (far ? 1 / 2 : STEP)));
  drag(root.querySelector(".mu-hill"), part.hand, (x) => move((x - WIDE / 2) / ((WIDE / 2 - EDGE) / REACH)));

  root.look = look;
  root.scene = scene;
  root.words = words;
  show();
}

begin("multiplier", start);
