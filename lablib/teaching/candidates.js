// The twin of candidates.py: `look`, `scene` and `words` say in JavaScript what it says in Python, so that the picture
// moves with no kernel. tests/widgets compares the two on random states.
const NAMES = ["slope", "p", "q", "a", "b", "penalty"], LEVELS = [1 / 32, 1 / 8, 1 / 2, 2];
const GRID = 20, WIDE = 480, HIGH = 360, UNIT = 76, TOP = 3, SAMPLES = 40, MET = 5e-5, P = [-1.5, 3], Q = [-3, 3];
const SIDES = [[0, -18], [22, 20], [0, -18], [0, -18], [-20, -12]], BELOW = 28;

const leaky = (u, slope) => Math.max(u, slope * u);

function look(slope, p, q, a, b, penalty) {
  const low = p - penalty / a, right = q + penalty / b, left = q + slope * penalty / b;
  const line = Math.max((a * p + b * q) / (a + b), 0);
  const back = Math.min((slope * a * p + b * q) / (slope * slope * a + b), 0);
  const v = [low, line, Math.max(low, 0), low, slope * back], u = [right, line, 0, left, back];
  const allowed = [right >= 0 && low >= right, true, true, left <= 0 && low >= slope * left, true];
  const cost = (x, y) => a / 2 * (x - p) * (x - p) + b / 2 * (y - q) * (y - q) + penalty * (x - leaky(y, slope));
  const costs = v.map((x, i) => allowed[i] ? cost(x, u[i]) : Infinity);
  let best = 0;
  for (const i of [1, 3, 4]) if (costs[i] < costs[best]) best = i;
  return {
    slope, p, q, a, b, penalty, v, u, costs, winner: best + 1, point: [v[best], u[best]], cost: costs[best],
    start_breaks: Math.max(leaky(q, slope) - p, 0), start_off: Math.abs(p - leaky(q, slope)),
    breaks: Math.max(leaky(u[best], slope) - v[best], 0), off: Math.abs(v[best] - leaky(u[best], slope)),
    tie: -(1 + slope) * penalty / (2 * b),
  };
}

// The outline of where the cost is at most the level, on one side of u = 0: half is 0 (right) or 3 (left). There the
// cost is a quadratic around candidate 1 or 4, and what is allowed lies above the line v = k u.
function valley(state, half, level) {
  const { slope, p, q, a, b, penalty } = state, v = state.v[half], u = state.u[half], k = half === 0 ? 1 : slope;
  const bottom = a / 2 * (v - p) * (v - p) + b / 2 * (u - q) * (u - q) + penalty * (v - k * u), rest = level - bottom;
  if (rest <= 0) return [];
  const reach = Math.sqrt(2 * rest / b);
  let first = u - reach, last = u + reach;
  if (v < k * first || v < k * last) {
    const lead = a * k * k + b, middle = (a * k * v + b * u) / lead;
    let root = middle * middle - (a * v * v + b * u * u - 2 * rest) / lead;
    if (root <= 0) return [];
    root = Math.sqrt(root);
    if (v < k * first) first = middle - root;
    if (v < k * last) last = middle + root;
  }
  if (half === 0) first = Math.max(first, 0); else last = Math.min(last, 0);
  if (first >= last) return [];
  const above = [], below = [];
  for (let i = 0; i <= SAMPLES; i += 1) {
    const x = (first + last) / 2 - (last - first) / 2 * Math.cos(Math.PI * i / SAMPLES);
    const h = Math.sqrt(Math.max(2 * rest - b * (x - u) * (x - u), 0) / a);
    above.push([v + h, x]);
    below.push([Math.min(Math.max(v - h, k * x), v + h), x]);
  }
  return [...above, ...below.reverse()];
}

// What is drawn: [part, attribute, value] for every part that moves.
const place = ([v, u]) => [clip(WIDE / 2 + UNIT * u, -500, 1000), clip(9 + UNIT * (TOP - v), -500, 1000)];
const put = (p) => `${fixed(p[0], 1, "-")} ${fixed(p[1], 1, "-")}`;
const pathOf = (points, end = "") => points.length ? "M" + points.map(put).join("L") + end : "";

function scene(state) {
  const { slope } = state, best = state.winner - 1;
  const levels = LEVELS.map((level, i) => [`level-${i + 1}`, "d",
    [0, 3].map((half) => pathOf(valley(state, half, state.cost + level).map(place), "Z")).join("")]);
  const hinge = pathOf([place([-4 * slope, -4]), place([0, 0]), place([4, 4])]);
  const places = state.v.map((v, i) => place([v, state.u[i]])), spots = places.map(put);
  const start = place([state.p, state.q]);
  const marks = places.flatMap(([x, y], i) => {
    const name = `candidate-${i + 1}`, number = `number-${i + 1}`;
    const kind = i === best ? "won" : state.costs[i] < Infinity ? "allowed" : "barred";
    const [across, down] = kind === "barred" ? [0, BELOW] : SIDES[i];
    const inside = x >= 0 && x <= WIDE && y >= 0 && y <= HIGH;
    const shared = spots.flatMap((spot, j) => spot === spots[i] ? [j + 1] : []);
    const text = inside && spots.indexOf(spots[i]) === i ? shared.join(", ") : "", room = 12 + 6 * text.length;
    return [
      [name, "transform", `translate(${spots[i]})`],
      [name, "data-kind", kind],
      [number, "x", fixed(clip(x + across, room, WIDE - room), 1)],
      [number, "y", fixed(clip(y + down, 30, HIGH - 12), 1)],
      [number, "text", text],
    ];
  });
  return [
    ...levels, ["beyond", "d", `${hinge}V${HIGH + 40}H-70Z`], ["curve", "d", hinge],
    ["miss", "d", pathOf([start, places[best]])],
    ["winner", "transform", `translate(${spots[best]})`], ["hand", "transform", `translate(${put(start)})`],
    ...marks,
  ];
}

// What is said: [part, text] for every line of the read-out.
function words(state) {
  const { v, u, costs } = state, best = state.winner - 1;
  const lines = v.map((x, i) => {
    const at = `v = ${fixed(x, 2)}, u = ${fixed(u[i], 2)}`, below = leaky(u[i], state.slope) - x;
    let text = `${at}: on the wrong side of u = 0`;
    if (costs[i] < Infinity) text = `${at}, costs ${fixed(costs[i], 3)}${i === best ? ": wins" : ""}`;
    else if (below > 0) text = `${at}: below s(u) by ${fixed(below, 2)}`;
    return [`said-${i + 1}`, text];
  });
  return [
    ["start-breaks", fixed(state.start_breaks, 4)], ["start-off", fixed(state.start_off, 4)],
    ["breaks", fixed(state.breaks, 4)], ["off", fixed(state.off, 4)],
    ["said-start", `p = ${fixed(state.p, 2)}, q = ${fixed(state.q, 2)}`],
    ...lines,
    ["said-tie", costs[0] < Infinity && costs[3] < Infinity
      ? `1 and 4 are both allowed; 1 wins to the right of q = ${fixed(state.tie, 3)}`
      : "1 and 4 are not both allowed here"],
  ];
}

function start(root) {
  const state = JSON.parse(root.dataset.state), { part, input } = parts(root);

  function show() {
    const found = look(...NAMES.map((name) => state[name]));
    draw(part, scene(found), words(found));
    root.dataset.feasible = String(found.off < MET);
    part.hand.setAttribute("aria-valuenow", fixed(state.q, 2, "-"));
    part.hand.setAttribute("aria-valuetext", `p ${fixed(state.p, 2)}, q ${fixed(state.q, 2)}`);
    for (const name of NAMES) {
      input[name].value = state[name];
      part["value-" + name].textContent = fixed(state[name], 2);
    }
    root.dataset.state = JSON.stringify(state);
  }
  function move(p, q) {
    state.p = clip(Math.round(p * GRID) / GRID, ...P);
    state.q = clip(Math.round(q * GRID) / GRID, ...Q);
    show();
  }

  for (const name of NAMES)
    input[name].addEventListener("input", () => { state[name] = Number(input[name].value); show(); });
  arrows(part.hand, ([across, up], far) => move(state.p + up * (far ? 1 / 4 : 1 / GRID), state.q + across * (far ? 1 / 4 : 1 / GRID)));
  drag(root.querySelector(".ca-plane"), part.hand, (x, y) => move(TOP - (y - 9) / UNIT, (x - WIDE / 2) / UNIT));

  root.look = look;
  root.scene = scene;
  root.words = words;
  show();
}

begin("candidates", start);
