// The twin of gap.py: `look`, `scene` and `words` say in JavaScript what it says in Python, so that the picture moves
// with no kernel. tests/widgets compares the two on random states.
const SLOPE = 0.25, REACH = 4, U_STEP = 1 / 16, V_STEP = 1 / 32, STEPS = 20, MET = 5e-5, RISE = 1e-9;
const WIDE = 480, HIGH = 360, TOP = 1, BOTTOM = -6, LEVELS = [1 / 32, 1 / 8, 1 / 2, 2, 8];
const REACHED = { relu: [0, Infinity], leaky_relu: [-Infinity, Infinity], sigmoid: [0, 1], tanh: [-1, 1] };
const WINDOW = { relu: [-0.75, 4], leaky_relu: [-1.5, 4], sigmoid: [-0.25, 1.25], tanh: [-1.5, 1.5] };
const TICKS = { relu: [0, 2, 4], leaky_relu: [0, 2, 4], sigmoid: [0, 0.5, 1], tanh: [-1, 0, 1] };
const STEEP = { relu: 1, leaky_relu: 1, sigmoid: 0.25, tanh: 1 };

function phi(activation, u) {
  if (activation === "relu") return Math.max(u, 0);
  if (activation === "leaky_relu") return u > 0 ? u : SLOPE * u;
  if (activation === "tanh") return Math.tanh(u);
  const e = Math.exp(-Math.abs(u));
  return (u >= 0 ? 1 : e) / (1 + e);
}

// G, an antiderivative of phi, and its conjugate, which is infinite where phi cannot reach v.
function integral(activation, u) {
  if (activation === "relu") return Math.max(u, 0) ** 2 / 2;
  if (activation === "leaky_relu") return (u > 0 ? u * u : SLOPE * u * u) / 2;
  if (activation === "tanh") return Math.abs(u) + Math.log1p(Math.exp(-2 * Math.abs(u))) - Math.log(2);
  return Math.max(u, 0) + Math.log1p(Math.exp(-Math.abs(u)));
}
function conjugate(activation, v) {
  const [low, high] = REACHED[activation], entropy = (p) => p > 0 ? p * Math.log(p) : 0;
  if (v < low || v > high) return Infinity;
  if (activation === "relu") return v * v / 2;
  if (activation === "leaky_relu") return (v > 0 ? v * v : v * v / SLOPE) / 2;
  if (activation === "tanh") return (entropy(1 + v) + entropy(1 - v)) / 2;
  return entropy(v) + entropy(1 - v);
}
const gap = (activation, v, u) => Math.max(conjugate(activation, v) + integral(activation, u) - u * v, 0);

// The s with phi(s) + c s = r. The left side rises, so for sigmoid and tanh an interval is halved.
function rootOf(activation, r, c) {
  if (activation === "relu" || activation === "leaky_relu")
    return r > 0 ? r / (1 + c) : r / ((activation === "relu" ? 0 : SLOPE) + c);
  const [least, most] = REACHED[activation];
  let low = (r - most) / c, high = (r - least) / c;
  for (let i = 0; i < 100; i += 1) {
    const middle = (low + high) / 2;
    if (phi(activation, middle) + c * middle < r) low = middle; else high = middle;
  }
  return (low + high) / 2;
}
const nextV = (activation, v, u, t) => phi(activation, rootOf(activation, v + t * u, t));
const nextU = (activation, v, u, t) => rootOf(activation, v + u / t, 1 / t);
const rose = (before, after) => after > before + RISE * (1 + before);

function look(activation, v, u, steps, power, order) {
  const length = 2 ** power, path = [[v, u]];
  for (let k = 0; k < STEPS; k += 1) {
    const [a, b] = path[k], moved = [nextV(activation, a, b, length), nextU(activation, a, b, length)];
    path.push(order === "once" ? moved : k % 2 === 0 ? [moved[0], b] : [a, moved[1]]);
  }
  const gaps = path.map(([a, b]) => gap(activation, a, b)), point = path[steps];
  const value = phi(activation, point[1]), violation = Math.abs(point[0] - value);
  return {
    activation, v, u, steps, power, length, order, path, gaps, point, gap: gaps[steps], phi: value, violation,
    bound: violation * violation / (2 * STEEP[activation]),
    terms: [conjugate(activation, point[0]), integral(activation, point[1]), point[1] * point[0]],
    rises: gaps.slice(1).filter((after, k) => rose(gaps[k], after)).length,
  };
}

// What is drawn: [part, attribute, value] for every part that moves.
const GRID = Array.from({ length: 49 }, (_, i) => (i - 24) / 6);
const put = (p) => `${fixed(p[0], 1, "-")} ${fixed(p[1], 1, "-")}`;
const pathOf = (points, end = "") => "M" + points.map(put).join("L") + end;

function place(activation, [v, u]) {
  const [low, high] = WINDOW[activation], x = WIDE / 2 + 55 * u, y = 14 + (HIGH - 28) * (high - v) / (high - low);
  return [clip(x, -500, 1000), clip(y, -500, 1000)];
}

// How far from phi(u) towards `end` v can go while B is at most the level.
function reaches(activation, u, level, end) {
  let inner = phi(activation, u), outer = end;
  if (gap(activation, outer, u) <= level) return outer;
  for (let i = 0; i < 30; i += 1) {
    const middle = (inner + outer) / 2;
    if (gap(activation, middle, u) <= level) inner = middle; else outer = middle;
  }
  return inner;
}

// What depends on the activation alone is computed once: the level sets, the curve, what phi cannot reach, v's ticks.
const grounds = {};
function ground(activation) {
  if (grounds[activation]) return grounds[activation];
  const [first, last] = WINDOW[activation], [least, most] = REACHED[activation];
  const low = Math.max(first, least), high = Math.min(last, most);
  const spot = (v, u) => place(activation, [v, u]), level = (v) => fixed(spot(v, 0)[1], 1);
  const levels = LEVELS.map((value, i) => {
    const above = GRID.map((u) => spot(reaches(activation, u, value, high), u));
    const below = GRID.map((u) => spot(reaches(activation, u, value, low), u));
    return [`level-${i + 1}`, "d", pathOf([...above, ...below.reverse()], "Z")];
  });
  const beyond = (low > first ? `M0 ${HIGH}V${level(low)}H${WIDE}V${HIGH}Z` : "")
    + (high < last ? `M0 0V${level(high)}H${WIDE}V0Z` : "");
  grounds[activation] = [
    ...levels, ["beyond", "d", beyond], ["zero", "d", `M0 ${level(0)}H${WIDE}`],
    ["curve", "d", pathOf(GRID.map((u) => spot(phi(activation, u), u)))],
    ...TICKS[activation].flatMap((v, i) => [
      [`tick-${i + 1}`, "y", fixed(spot(v, 0)[1] + 5, 1)], [`tick-${i + 1}`, "text", fixed(v, v % 1 ? 1 : 0)]]),
  ];
  return grounds[activation];
}

function chart(k, value) {
  const power = clip(Math.log10(Math.max(value, 1e-30)), BOTTOM, TOP);
  return [52 + 20.5 * k, 12 + 22 * (TOP - power)];
}
const number = (value) => value < Infinity ? fixed(value, 4) : "∞";

function scene(state) {
  const { activation, steps, gaps } = state;
  const walked = state.path.slice(0, steps + 1).map((point) => place(activation, point)), here = walked[steps];
  const x = clip(here[0], 85, WIDE - 85), y = clip(here[1], 0, HIGH), spots = gaps.map((value, k) => chart(k, value));
  return [
    ...ground(activation),
    ["miss", "d", pathOf([here, place(activation, [state.phi, state.point[1]])])],
    ["path", "d", pathOf(walked)],
    ["dots", "d", walked.map((p) => pathOf([p]) + "h0").join("")],
    ["here", "transform", `translate(${put(here)})`],
    ["hand", "transform", `translate(${put(walked[0])})`],
    ["label", "x", fixed(x, 1)], ["label", "y", fixed(y < 70 || (walked[0][1] + 1 < y && y < HIGH - 60) ? y + 36 : y - 22, 1)],
    ["label", "text", `B = ${number(state.gap)}`],
    ["gaps", "d", pathOf(spots)],
    ["rises", "d", spots.slice(1).map((b, k) => rose(gaps[k], gaps[k + 1]) ? pathOf([spots[k], b]) : "").join("")],
    ["now", "d", `M${fixed(spots[steps][0], 1)} 12V166`],
    ["spot", "transform", `translate(${put(spots[steps])})`],
  ];
}

// What is said: [part, text] for every line of the read-out.
function words(state) {
  const [v, u] = state.point, [first, second, product] = state.terms, { steps, rises } = state;
  let following = steps % 2 === 0 ? "v moves, u is held" : "u moves, v is held";
  if (state.order === "once") following = "v and u both move, from the same point";
  const minus = product >= 0 ? `− ${fixed(product, 3)}` : `+ ${fixed(-product, 3)}`;
  return [
    ["violation", fixed(state.violation, 4)],
    ["gap", number(state.gap)],
    ["said-start", `v = ${fixed(state.v, 3)}, u = ${fixed(state.u, 3)}`],
    ["said-point", `v = ${fixed(v, 3)}, u = ${fixed(u, 3)}, φ(u) = ${fixed(state.phi, 3)}`],
    ["said-terms", first < Infinity
      ? `G*(v) + G(u) − u v = ${fixed(first, 3)} + ${fixed(second, 3)} ${minus}`
      : "G*(v) = ∞: the activation never gives this v"],
    ["said-bound", `(v − φ(u))²/2L = ${fixed(state.bound, 4)}, never more than B`],
    ["said-next", steps < STEPS ? following : "none: the walk ends here"],
    ["said-rises", `B rises in ${rises || "none"} of the ${STEPS} steps`],
  ];
}

function start(root) {
  const state = JSON.parse(root.dataset.state), { part, input } = parts(root);

  function show() {
    const found = look(state.activation, state.v, state.u, state.steps, state.power, state.order);
    draw(part, scene(found), words(found));
    root.dataset.feasible = String(found.violation < MET);
    part.hand.setAttribute("aria-valuenow", fixed(state.u, 3, "-"));
    part.hand.setAttribute("aria-valuetext", `v ${fixed(state.v, 3)}, u ${fixed(state.u, 3)}`);
    [input.v.min, input.v.max] = WINDOW[state.activation];
    for (const name of ["activation", "v", "u", "steps", "power", "order"]) input[name].value = state[name];
    const shown = [["v", fixed(state.v, 3)], ["u", fixed(state.u, 3)], ["steps", String(state.steps)],
      ["power", fixed(found.length, 3)]];
    for (const [name, text] of shown) part["value-" + name].textContent = text;
    root.dataset.state = JSON.stringify(state);
  }
  // On the grid, except that within half a step of the curve v lies on it: so the gap can be 0 under the hand.
  function move(v, u) {
    const grid = (value, step, low, high) => clip(Math.round(value / step) * step, low, high);
    state.u = grid(u, U_STEP, -REACH, REACH);
    state.v = grid(v, V_STEP, ...WINDOW[state.activation]);
    const value = phi(state.activation, state.u);
    if (Math.abs(state.v - value) < V_STEP / 2) state.v = value;
    show();
  }

  input.v.addEventListener("input", () => move(Number(input.v.value), state.u));
  input.u.addEventListener("input", () => move(state.v, Number(input.u.value)));
  for (const name of ["steps", "power"])
    input[name].addEventListener("input", () => { state[name] = Number(input[name].value); show(); });
  input.activation.addEventListener("change", () => { state.activation = input.activation.value; move(state.v, state.u); });
  input.order.addEventListener("change", () => { state.order = input.order.value; show(); });
  arrows(part.hand, ([across, up], far) =>
    move(state.v + up * (far ? 1 / 4 : V_STEP), state.u + across * (far ? 1 / 2 : U_STEP)));
  drag(root.querySelector(".ga-plane"), part.hand, (x, y) => {
    const [low, high] = WINDOW[state.activation];
    move(high - (y - 14) / (HIGH - 28) * (high - low), (x - WIDE / 2) / 55);
  });

  root.look = look;
  root.scene = scene;
  root.words = words;
  show();
}

begin("gap", start);
