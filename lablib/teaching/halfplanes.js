// The twin of halfplanes.py: `explore`, `scene` and `words` say in JavaScript what it says in Python, so that the
// picture moves with no kernel. tests/widgets compares the two on random states. widget.js stands before this in the page.
const REACH = 1.75, SCALE = 120, HALF = 240, ARROW = 0.6, PULL = [0, 1], NEAR = 1e-9, GRID = 64;
const TURNS = 24, LIMIT = 1.25, STEP = 1 / 16, SEAT = 1.6, SIDE = 2, HATCH = 0.09;
const PRESETS = {
  four: [[[3, 1], [21, 0.875], [9, 0.625], [15, 1]], [1.125, 1.125]],
  fan: [[[0, 0], [6, 0], [3, 0], [15, 1.25]], [1.5, 0.5]],
  double: [[[6, 0.5], [6, 0.5], [18, 0.75], [12, 1]], [0.25, 1.375]],
  thin: [[[3, 0.5], [15, -0.5], [21, 0.75], [9, 0.75]], [1.25, 0.5]],
  open: [[[9, 0.25], [15, 0.5], [7, 0.75], [12, 0.75]], [-1.5, 0.25]],
  empty: [[[0, -0.5], [8, -0.25], [16, -0.25], [12, 1]], [0.75, 0.5]],
};

const cross = (a, b) => a[0] * b[1] - a[1] * b[0];
const normal = (turn) => [Math.cos(2 * Math.PI * turn / TURNS), Math.sin(2 * Math.PI * turn / TURNS)];

function combinations(items, size) {
  if (size === 0) return [[]];
  return items.flatMap((item, i) => combinations(items.slice(i + 1), size - 1).map((rest) => [item, ...rest]));
}

// The coefficients of the combination of at most two independent unit normals that is nearest to d.
function solve(normals, d) {
  if (normals.length < 2) return normals.map((a) => dot(a, d));
  const [a, b] = normals, det = cross(a, b);
  return [cross(d, b) / det, cross(a, d) / det];
}

// The nearest point: the best feasible one of the projections on all sets of at most two lines.
function project(normals, shifts, y) {
  let best = null, least = Infinity;
  for (const size of [0, 1, 2]) for (const rows of combinations(normals.map((_, i) => i), size)) {
    const chosen = rows.map((i) => normals[i]);
    if (size === 2 && Math.abs(cross(...chosen)) <= NEAR) continue;
    let x = y;
    if (size === 1) x = along(y, shifts[rows[0]] - dot(chosen[0], y), chosen[0]);
    if (size === 2) {
      const [a, b] = chosen, det = cross(a, b), [s, t] = rows.map((i) => shifts[i]);
      x = [(s * b[1] - t * a[1]) / det, (t * a[0] - s * b[0]) / det];
    }
    const far = Math.hypot(x[0] - y[0], x[1] - y[1]);
    if (far < least - 1e-12 && normals.every((a, i) => dot(a, x) <= shifts[i] + NEAR)) [best, least] = [x, far];
  }
  return best;
}

function familyOf(normals, active, d) {
  const found = [];
  for (const size of [0, 1, 2]) for (const rows of combinations(active, size)) {
    const chosen = rows.map((k) => normals[k]);
    if (size === 2 && Math.abs(cross(...chosen)) <= NEAR) continue;
    const forces = solve(chosen, d);
    let rest = d;
    chosen.forEach((a, i) => { rest = along(rest, -forces[i], a); });
    if (Math.hypot(...rest) <= NEAR && forces.every((force) => force >= -NEAR)) found.push([rows, forces.map((force) => Math.max(force, 0))]);
  }
  return found;
}

// Sets of two or three rows with positive weights, summing to 1, under which their normals add up to 0.
function dependencies(normals, among) {
  const found = [];
  for (const [i, j] of combinations(among, 2)) if (Math.hypot(...along(normals[i], 1, normals[j])) <= NEAR) found.push([[i, j], [0.5, 0.5]]);
  for (const rows of combinations(among, 3)) {
    const [a, b, c] = rows.map((k) => normals[k]), weights = [cross(b, c), cross(c, a), cross(a, b)];
    const total = weights[0] + weights[1] + weights[2];
    if (Math.abs(total) > NEAR && weights.every((w) => w / total > NEAR)) found.push([rows, weights.map((w) => w / total)]);
  }
  return found;
}

function certificateOf(normals, shifts) {
  let best = null;
  for (const [rows, weights] of dependencies(normals, normals.map((_, i) => i))) {
    const says = rows.reduce((sum, i, k) => sum + weights[k] * shifts[i], 0);
    if (says < -NEAR && (best === null || says < best[2] - NEAR)) best = [rows, weights, says];
  }
  return best;
}

function explore(rows, y) {
  const normals = rows.map(([turn]) => normal(turn)), shifts = rows.map((row) => row[1]);
  const violation = (p) => Math.max(0, ...normals.map((a, i) => dot(a, p) - shifts[i]));
  const found = { rows, y, violation_y: violation(y) }, certificate = certificateOf(normals, shifts);
  if (certificate) return { ...found, empty: true, certificate };
  const x = project(normals, shifts, y);
  const active = rows.map((_, i) => i).filter((i) => Math.abs(dot(normals[i], x) - shifts[i]) <= NEAR);
  const family = familyOf(normals, active, along(y, -1, x));
  let held = family[0][0], fewest = family[0][0];
  for (const [K] of family) if (K.length > held.length) held = K;
  const projector = (K) => {
    if (K.length === 0) return [[1, 0], [0, 1]];
    if (K.length === 2) return [[0, 0], [0, 0]];
    const [c, s] = normals[K[0]];
    return [[1 - c * c, -c * s], [-c * s, 1 - s * s]];
  };
  const endless = new Set(dependencies(normals, active).flatMap(([K]) => K));
  const spread = rows.map((_, i) => family.map(([K, forces]) => K.includes(i) ? forces[K.indexOf(i)] : 0));
  const jacobian = projector(held), eta = solve(held.map((k) => normals[k]), PULL);
  return {
    ...found, empty: false, x, violation_x: violation(x), active, face_dimension: 2 - held.length, family, held,
    ranges: spread.map((s, i) => [Math.min(...s), endless.has(i) ? null : Math.max(...s)]),
    jacobian, highest: projector(fewest), descent: jacobian.map((line) => dot(line, PULL)),
    shifts: rows.map((_, i) => held.includes(i) ? eta[held.indexOf(i)] : 0),
  };
}

// What is drawn: [part, attribute, value] for every part that moves.
const at = (p) => [fixed(HALF + SCALE * p[0], 1, "-"), fixed(HALF - SCALE * p[1], 1, "-")];
const put = (p) => at(p).join(" ");
const path = (points, end = "") => points.length ? "M" + points.map(put).join("L") + end : "";
function arrow(p, d) {
  const length = ARROW * Math.sqrt(dot(d, d));
  if (length < NEAR) return "";
  const n = Math.sqrt(dot(d, d)), u = [d[0] / n, d[1] / n], q = [-u[1], u[0]];
  const tip = along(p, length, u), back = along(tip, -0.13, u);
  return path([p, tip]) + path([along(back, 0.08, q), tip, along(back, -0.08, q)]);
}
function head(p, tip) {
  const d = [tip[0] - p[0], tip[1] - p[1]], length = Math.hypot(...d);
  if (length < 0.02) return "";
  const u = [d[0] / length, d[1] / length], q = [-u[1], u[0]], back = along(tip, -0.11, u);
  return path([p, tip]) + path([along(back, 0.06, q), tip, along(back, -0.06, q)]);
}
function line([turn, shift]) {
  const a = normal(turn), foot = [shift * a[0], shift * a[1]], way = [-a[1], a[0]];
  let d = path([along(foot, -3, way), along(foot, 3, way)]);
  for (let k = -10; k <= 10; k++) { const p = along(foot, k / 4, way); d += path([p, along(p, HATCH, a)]); }
  return d;
}
function seat([turn, shift], index) {
  const a = normal(turn), t = Math.sqrt(Math.max(SEAT * SEAT - shift * shift, 0)) * (index % 2 ? -1 : 1);
  return along([shift * a[0], shift * a[1]], t, [-a[1], a[0]]);
}
function outline(rows) {
  let corners = [[-SIDE, -SIDE], [SIDE, -SIDE], [SIDE, SIDE], [-SIDE, SIDE]];
  for (const [turn, shift] of rows) {
    const a = normal(turn), kept = [];
    corners.forEach((p, i) => {
      const q = corners[(i + 1) % corners.length], inside = dot(a, p) - shift, ahead = dot(a, q) - shift;
      if (inside <= NEAR) kept.push(p);
      if ((inside < -NEAR && ahead > NEAR) || (inside > NEAR && ahead < -NEAR))
        kept.push(along(p, inside / (inside - ahead), [q[0] - p[0], q[1] - p[1]]));
    });
    corners = kept;
  }
  return corners;
}

function scene(state, chosen) {
  const { rows, y } = state, list = [];
  rows.forEach((row, i) => {
    list.push([`line-${i}`, "d", line(row)], [`handle-${i}`, "transform", `translate(${put(seat(row, i))})`]);
    const push = state.empty ? state.certificate[0].includes(i) : state.ranges[i][0] > NEAR;
    list.push([`line-${i}`, "data-look", push ? "push" : i === chosen ? "chosen" : ""]);
  });
  list.push(["y", "transform", `translate(${put(y)})`]);
  const spot = at([clip(y[0], -1, 1), y[1] + (y[1] < 1.3 ? 0.32 : -0.44)]);
  list.push(["label-y", "x", spot[0]], ["label-y", "y", spot[1]], ["label-y", "text", `raw y: off by ${fixed(state.violation_y, 3)}`]);
  if (state.empty) {
    for (const part of ["set", "cone", "face", "reach", "forces", "pull", "descent"]) list.push([part, "d", ""]);
    return [...list, ["x", "transform", "translate(-90 -90)"], ["label-x", "text", "no x: the set is empty"]];
  }
  const { x, held, active, face_dimension: dimension } = state, normals = rows.map(([turn]) => normal(turn));
  const edge = outline(rows), near = edge.filter((p) => active.every((i) => Math.abs(dot(normals[i], p) - rows[i][1]) <= NEAR));
  let wedges = "", forces = "", from = x;
  for (const [i, j] of combinations(active, 2))
    if (Math.abs(cross(normals[i], normals[j])) > NEAR) wedges += path([x, along(x, 9, normals[i]), along(x, 9, normals[j])], "Z");
  const rays = active.map((i) => path([x, along(x, 9, normals[i])])).join("");
  const pushes = state.family.find(([K]) => String(K) === String(held))[1];
  held.forEach((k, i) => {
    const tip = along(from, pushes[i], normals[k]);
    forces += head(from, tip);
    from = tip;
  });
  const inside = Math.hypot(y[0] - x[0], y[1] - x[1]) < NEAR;
  return [
    ...list,
    ["set", "d", path(edge, "Z")],
    ["cone", "d", wedges + rays],
    ["face", "d", dimension === 0 ? path([x, x]) : path(near, dimension === 2 ? "Z" : "")],
    ["reach", "d", inside ? "" : path([y, x])],
    ["forces", "d", forces],
    ["pull", "d", arrow(x, PULL)],
    ["descent", "d", inside ? "" : arrow(y, state.descent)],
    ["x", "transform", `translate(${put(x)})`],
    ["label-x", "text", ""],
  ];
}

// What is said: [part, text] for every line of the read-out.
function words(state) {
  const { y } = state, small = (i) => "₁₂₃₄₅₆₇₈₉"[i], offY = fixed(state.violation_y, 3);
  const pair = (p) => `(${fixed(p[0], 2)},\u00a0${fixed(p[1], 2)})`, names = (K) => K.map((i) => i + 1).join(", ");
  if (state.empty) {
    const [rows, weights, says] = state.certificate;
    const sum = rows.map((i, k) => `${fixed(weights[k], 2)} × row ${i + 1}`).join(" + ");
    return [
      ["violation-y", offY], ["violation-x", "no x"], ["violation", `y ${offY},  no x`],
      ["points", `y = ${pair(y)}`],
      ["active", `rows ${names(rows)} contradict each other`],
      ["smallest-face", "the set is empty"],
      ["multipliers", `proof: ${sum} says 0 ≤ ${fixed(says, 3)}`],
      ["family", "none"],
      ["jacobian", "none: lablib raises an error that holds the proof"],
      ["gradient", "none"],
    ];
  }
  const offX = fixed(state.violation_x, 3), J = state.jacobian.map((row) => row.map((v) => fixed(v, 2)));
  const rank = 2 - state.held.length, higher = Math.round(state.highest[0][0] + state.highest[1][1]) - rank;
  const forces = state.active.map((i) => {
    const [low, high] = state.ranges[i];
    const to = high === null ? " or more" : high - low > NEAR ? ` to ${fixed(high, 2)}` : "";
    return `λ${small(i)} = ${fixed(low, 2)}${to}`.replaceAll(" ", "\u00a0");
  });
  const reaches = Math.hypot(...state.descent) < NEAR ? "nothing" : pair(state.descent);
  const shifts = state.held.map((i) => `h${small(i)}\u00a0${fixed(state.shifts[i], 2)}`).join(", ") || "nothing";
  return [
    ["violation-y", offY], ["violation-x", offX], ["violation", `y ${offY},  x ${offX}`],
    ["points", `y = ${pair(y)},  x\u00a0=\u00a0${pair(state.x)}`],
    ["active", state.active.length ? `rows ${names(state.active)}` : "none"],
    ["smallest-face", ["a corner", "an edge", "the whole set"][state.face_dimension]],
    ["multipliers", forces.join(";  ") || "none"],
    ["family", state.family.map(([K]) => K.length ? `{${names(K)}}` : "{ }").join("  ")],
    ["jacobian", `[${J[0][0]}  ${J[0][1]};  ${J[1][0]}  ${J[1][1]}], rank ${rank}${higher ? `; the highest has rank ${rank + higher}` : ""}`],
    ["gradient", `to y ${reaches};  to the shifts ${shifts}`],
  ];
}

function start(root) {
  const state = JSON.parse(root.dataset.state), { part, input } = parts(root), svg = root.querySelector("svg");
  const where = ([turn, shift]) => `turned by ${15 * turn}°, shift ${fixed(shift, 2)}`;

  function show() {
    const found = explore(state.rows, state.y);
    draw(part, scene(found, state.chosen), words(found));
    root.dataset.rank = found.empty ? 2 : found.face_dimension;
    root.dataset.feasible = String(found.violation_y < NEAR);
    part.y.setAttribute("aria-valuenow", fixed(state.y[0], 2, "-"));
    part.y.setAttribute("aria-valuetext", `y₁ ${fixed(state.y[0], 2)}, y₂ ${fixed(state.y[1], 2)}`);
    state.rows.forEach((row, i) => {
      part[`handle-${i}`].setAttribute("aria-valuenow", fixed(row[1], 4, "-"));
      part[`handle-${i}`].setAttribute("aria-valuetext", where(row));
      part[`handle-${i}`].dataset.chosen = String(i === state.chosen);
    });
    const [turn, shift] = state.rows[state.chosen];
    for (const [name, value, text] of [["turn", turn, `${15 * turn}°`], ["shift", shift, fixed(shift, 2)], ["y1", state.y[0], fixed(state.y[0], 2)], ["y2", state.y[1], fixed(state.y[1], 2)]]) {
      input[name].value = value;
      part["value-" + name].textContent = text;
    }
    input.chosen.value = state.chosen;
    input.preset.value = state.preset;
    root.dataset.state = JSON.stringify(state);
  }
  function moveY(y) {
    state.y = y.map((v) => clip(Math.round(v * GRID) / GRID, -REACH, REACH));
    show();
  }
  function moveRow(i, turn, shift) {
    state.chosen = i;
    state.rows[i] = [((turn % TURNS) + TURNS) % TURNS, clip(Math.round(shift / STEP) * STEP, -LIMIT, LIMIT)];
    show();
  }
  function place(event) {
    const p = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [(p.x - HALF) / SCALE, (HALF - p.y) / SCALE];
  }

  input.y1.addEventListener("input", () => moveY([Number(input.y1.value), state.y[1]]));
  input.y2.addEventListener("input", () => moveY([state.y[0], Number(input.y2.value)]));
  input.turn.addEventListener("input", () => moveRow(state.chosen, Number(input.turn.value), state.rows[state.chosen][1]));
  input.shift.addEventListener("input", () => moveRow(state.chosen, state.rows[state.chosen][0], Number(input.shift.value)));
  input.chosen.addEventListener("change", () => { state.chosen = Number(input.chosen.value); show(); });
  input.preset.addEventListener("change", () => {
    state.preset = input.preset.value;
    const [rows, y] = PRESETS[state.preset];
    [state.rows, state.y] = [rows.map((row) => row.slice()), y.slice()];
    show();
  });
  arrows(part.y, (step, far) => moveY(along(state.y, far ? 1 / 4 : 1 / 16, step)));
  state.rows.forEach((_, i) => arrows(part[`handle-${i}`], (step, far) => moveRow(
    i, state.rows[i][0] + step[0] * (far ? 3 : 1), state.rows[i][1] + step[1] * (far ? 1 / 4 : STEP))));
  // A handle is dragged by mouse or finger. A mouse may also take y from anywhere in the plane; a finger there scrolls.
  let held = null, dragged = null;
  const drag = (event) => {
    const p = place(event);
    if (dragged === "y") moveY(p);
    else moveRow(dragged, state.rows[dragged][0], dot(normal(state.rows[dragged][0]), p));
  };
  const grips = { y: part.y };
  state.rows.forEach((_, i) => { grips[i] = part[`handle-${i}`]; });
  svg.addEventListener("pointerdown", (event) => {
    const found = Object.keys(grips).find((key) => grips[key].contains(event.target));
    if (event.button !== 0 || (event.pointerType === "touch" && found === undefined)) return;
    dragged = found === undefined || found === "y" ? "y" : Number(found);
    held = event.pointerId;
    svg.setPointerCapture(held);
    event.preventDefault();
    grips[dragged].focus({ preventScroll: true });
    drag(event);
  });
  svg.addEventListener("pointermove", (event) => { if (event.pointerId === held) drag(event); });
  for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, () => { held = null; });
  // A tap in the plane, where no handle is, brings y there.
  svg.addEventListener("click", (event) => {
    if (event.pointerType === "touch" && !Object.values(grips).some((grip) => grip.contains(event.target))) moveY(place(event));
  });
  // Chromium scrolls away with a finger on a part of an SVG even where touch-action is none; this holds the page still.
  for (const grip of Object.values(grips)) grip.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });

  root.explore = explore;
  root.scene = scene;
  root.words = words;
  root.presets = PRESETS;
  show();
}

begin("halfplanes", start);
