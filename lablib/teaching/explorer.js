// The explorer's twin: `explore`, `scene` and `words` say in JavaScript what explorer.py says in Python, so that the
// picture moves with no kernel. tests/widgets compares the two on random states. widget.js stands before this in the page.
const REACH = 1.75, SCALE = 120, HALF = 240, CIRCLE = 0.3, ARROW = 0.6, PULL = [0, 1], NEAR = 1e-9, GRID = 64;

// Rows are [a, b, name]: a.x <= b, or a.x = b for those in `equal`. Corners go round the set.
function shape(set, s) {
  const n = fixed(s, 2);
  if (set === "box") return {
    equal: [],
    rows: [[[1, 0], s, `x₁ ≤ ${n}`], [[0, 1], s, `x₂ ≤ ${n}`], [[-1, 0], s, `x₁ ≥ −${n}`], [[0, -1], s, `x₂ ≥ −${n}`]],
    corners: [[s, s], [-s, s], [-s, -s], [s, -s]], formula: `|x₁| ≤ ${n},  |x₂| ≤ ${n}`,
    project: (y) => [clip(y[0], -s, s), clip(y[1], -s, s)],
  };
  if (set === "simplex") return {
    equal: [[[1, 1], s, `x₁ + x₂ = ${n}`]], rows: [[[-1, 0], 0, "x₁ ≥ 0"], [[0, -1], 0, "x₂ ≥ 0"]],
    corners: [[s, 0], [0, s]], formula: `x₁ + x₂ = ${n},  x₁ ≥ 0,  x₂ ≥ 0`,
    project: (y) => simplex(y, s),
  };
  if (set === "l1ball") return {
    equal: [],
    rows: [[[1, 1], s, `x₁ + x₂ ≤ ${n}`], [[-1, 1], s, `−x₁ + x₂ ≤ ${n}`], [[-1, -1], s, `−x₁ − x₂ ≤ ${n}`], [[1, -1], s, `x₁ − x₂ ≤ ${n}`]],
    corners: [[s, 0], [0, s], [-s, 0], [0, -s]], formula: `|x₁| + |x₂| ≤ ${n}`,
    project: (y) => {
      if (Math.abs(y[0]) + Math.abs(y[1]) <= s) return y.slice();
      const x = simplex([Math.abs(y[0]), Math.abs(y[1])], s);
      return [y[0] < 0 ? -x[0] : x[0], y[1] < 0 ? -x[1] : x[1]];
    },
  };
  const onLine = (y) => along(y, -(y[0] + 2 * y[1] - s) / 5, [1, 2]);
  if (set === "boxbudget") {
    const cap = 0.75 * s, c = fixed(cap, 2);
    return {
      equal: [[[1, 2], s, `x₁ + 2x₂ = ${n}`]],
      rows: [[[-1, 0], 0, "x₁ ≥ 0"], [[0, -1], 0, "x₂ ≥ 0"], [[1, 0], cap, `x₁ ≤ ${c}`], [[0, 1], cap, `x₂ ≤ ${c}`]],
      corners: [[cap, 0.125 * s], [0, 0.5 * s]], formula: `x₁ + 2x₂ = ${n},  0 ≤ x₁, x₂ ≤ ${c}`,
      project: (y) => {
        const x = onLine(y);
        return x[0] >= cap ? [cap, 0.125 * s] : x[0] <= 0 ? [0, 0.5 * s] : x;
      },
    };
  }
  return {
    equal: [[[1, 2], s, `x₁ + 2x₂ = ${n}`]], rows: [], corners: [[s + 8, -4], [s - 8, 4]],
    formula: `x₁ + 2x₂ = ${n}`, project: onLine,
  };
}

function simplex(y, s) {
  const first = (y[0] - y[1] + s) / 2;
  return first >= s ? [s, 0] : first <= 0 ? [0, s] : [first, s - first];
}

function explore(set, y, size) {
  const { equal, rows, corners, project } = shape(set, size), x = project(y);
  const tight = rows.filter(([a, b]) => Math.abs(dot(a, x) - b) <= NEAR);
  const active = [...equal, ...tight], first = active.length ? active[0][0] : null;
  const across = active.some(([a]) => Math.abs(a[0] * first[1] - a[1] * first[0]) > NEAR);
  const dimension = first === null ? 2 : across ? 0 : 1;
  let jacobian = [[1, 0], [0, 1]];
  if (dimension === 0) jacobian = [[0, 0], [0, 0]];
  if (dimension === 1) {
    const k = dot(first, first), off = -first[0] * first[1] / k;
    jacobian = [[1 - first[0] * first[0] / k, off], [off, 1 - first[1] * first[1] / k]];
  }
  const violation = (p) => Math.max(
    0, ...equal.map(([a, b]) => Math.abs(dot(a, p) - b)), ...rows.map(([a, b]) => dot(a, p) - b));
  const away = along(y, -1, x), [p, q] = tight.map((row) => row[0]);
  // A kink: a row is active, yet its multiplier is zero.
  let multipliers = tight.map(([a]) => equal.length ? dot(away, along(a, -dot(a, first) / dot(first, first), first)) : dot(away, a));
  if (q && !equal.length) {
    const det = p[0] * q[1] - p[1] * q[0];
    multipliers = [(away[0] * q[1] - away[1] * q[0]) / det, (p[0] * away[1] - p[1] * away[0]) / det];
  }
  const kink = multipliers.some((value) => value < NEAR);
  const gap = set === "affine" ? 0 : Math.max(...corners.map((z) => dot(away, along(z, -1, x))));
  return {
    set, size, y: y.slice(), x, face_dimension: dimension, active: active.map((row) => row[2]), jacobian, kink,
    violation_y: violation(y), violation_x: violation(x), gap, descent: [dot(jacobian[0], PULL), dot(jacobian[1], PULL)],
  };
}

// What is drawn: [part, attribute, value] for every part that moves.
const put = (p) => `${fixed(HALF + SCALE * p[0], 1, "-")} ${fixed(HALF - SCALE * p[1], 1, "-")}`;
const path = (points, end = "") => points.length ? "M" + points.map(put).join("L") + end : "";
const circle = (p, r) => {
  const d = fixed(SCALE * r, 1), span = fixed(2 * SCALE * r, 1);
  return `M${put(along(p, -r, [1, 0]))}a${d} ${d} 0 1 0 ${span} 0a${d} ${d} 0 1 0 -${span} 0Z`;
};
const bar = (p, d, r) => {
  const q = [-d[1], d[0]], a = along(p, -r, d), b = along(p, r, d);
  return path([along(a, -0.07, q), along(a, 0.07, q)]) + path([a, b]) + path([along(b, -0.07, q), along(b, 0.07, q)]);
};
function arrow(p, d) {
  const length = ARROW * Math.sqrt(dot(d, d));
  if (length < NEAR) return "";
  const u = unit(d), q = [-u[1], u[0]], tip = along(p, length, u), back = along(tip, -0.13, u);
  return path([p, tip]) + path([along(back, 0.08, q), tip, along(back, -0.08, q)]);
}

// Directions in which the normal cone opens: none, a ray, a line, a wedge or a half-plane.
function cone(set, size, x) {
  const { equal, rows } = shape(set, size);
  const tight = rows.filter(([a, b]) => Math.abs(dot(a, x) - b) <= NEAR).map(([a]) => unit(a));
  if (!equal.length) return tight.length < 2 ? { edges: tight, fan: [] } : { edges: tight, fan: [tight[0], unit(along(tight[0], 1, tight[1])), tight[1]] };
  const normal = unit(equal[0][0]), back = [-normal[0], -normal[1]];
  if (!tight.length) return { edges: [normal, back], fan: [] };
  const out = unit(along(tight[0], -dot(tight[0], normal), normal));
  return { edges: [normal, back], fan: [normal, out, back] };
}

function scene(state) {
  const { set, size, y, x, jacobian: J, face_dimension: dimension } = state;
  const { corners, equal, rows } = shape(set, size), { edges, fan } = cone(set, size, x), cap = 0.75 * size;
  const near = corners.filter((c) => rows.every(
    ([a, b]) => Math.abs(dot(a, x) - b) > NEAR || Math.abs(dot(a, c) - b) <= NEAR));
  const inside = Math.hypot(y[0] - x[0], y[1] - x[1]) < NEAR, up = y[1] >= x[1];
  const tangent = dimension === 1 ? unit(Math.abs(J[0][0]) >= Math.abs(J[1][1]) ? [J[0][0], J[1][0]] : [J[0][1], J[1][1]]) : null;
  const spot = (p, above, far) => [clip(p[0], -1.05, 1.05), p[1] + (above ? far : -far - 0.12)];
  const labelY = spot(y, y[1] < -1.4 || (up && y[1] < 1.48), 0.36), labelX = spot(x, !up, 0.3);
  const at = (p) => [fixed(HALF + SCALE * p[0], 1, "-"), fixed(HALF - SCALE * p[1], 1, "-")];
  const image = dimension === 2 ? circle(x, CIRCLE) : dimension === 1 ? bar(x, tangent, CIRCLE) : path([x, x]);
  const rays = edges.map((d) => path([x, along(x, 12, d)])).join("");
  return [
    ["frame", "d", set === "boxbudget" ? path([[0, 0], [cap, 0], [cap, cap], [0, cap]], "Z") : ""],
    ["set", "d", path(corners, equal.length ? "" : "Z")],
    ["cone", "d", fan.length ? path([x, ...fan.map((d) => along(x, 12, d))], "Z") : ""],
    ["band", "d", fan.length ? "" : rays], ["rays", "d", rays],
    ["face", "d", dimension === 0 ? path([x, x]) : path(near, dimension === 2 ? "Z" : "")],
    ["reach", "d", inside ? "" : path([y, x])],
    ["circle", "d", circle(y, CIRCLE)],
    ["halo", "d", image], ["image", "d", image],
    ["pull", "d", arrow(x, PULL)],
    ["descent", "d", inside ? "" : arrow(y, state.descent)],
    ["x", "transform", `translate(${put(x)})`],
    ["y", "transform", `translate(${put(y)})`],
    ["label-x", "x", at(labelX)[0]], ["label-x", "y", at(labelX)[1]], ["label-x", "text", inside ? "" : `projected x: ${fixed(state.violation_x, 3)}`],
    ["label-y", "x", at(labelY)[0]], ["label-y", "y", at(labelY)[1]], ["label-y", "text", `${inside ? "y = x" : "raw y"}: off by ${fixed(state.violation_y, 3)}`],
  ];
}

// What is said: [part, text] for every line of the read-out.
function words(state) {
  const { set, size, y, x, jacobian: J, face_dimension: dimension, descent } = state;
  const pair = (p) => `(${fixed(p[0], 2)},\u00a0${fixed(p[1], 2)})`, flat = shape(set, size).equal.length > 0;
  const offY = fixed(state.violation_y, 3), offX = fixed(state.violation_x, 3);
  const face = dimension === 0 ? "a corner" : dimension === 2 ? "the whole set" : !flat ? "an edge" : set === "affine" ? "the whole line" : "the whole segment";
  const image = ["a point", "a segment", "itself"][dimension];
  const choice = state.kink ? "; at this kink a larger image is legal too" : "";
  const reaches = Math.hypot(...descent) < NEAR ? "nothing: training stands still" : pair(descent);
  return [
    ["violation-y", offY],
    ["violation-x", offX],
    ["violation", `y ${offY},  x ${offX}`],
    ["formula", shape(set, size).formula],
    ["points", `y = ${pair(y)},  x\u00a0=\u00a0${pair(x)}`],
    ["active", state.active.join(";  ") || "none"],
    ["smallest-face", `${face}, dimension ${dimension}`],
    ["jacobian", `[${fixed(J[0][0], 2)}  ${fixed(J[0][1], 2)};  ${fixed(J[1][0], 2)}  ${fixed(J[1][1], 2)}] turns the circle into ${image}${choice}`],
    ["gradient", `a loss pulls x by ${pair(PULL)}; what reaches y is ${reaches}`],
  ];
}

function start(root) {
  const state = JSON.parse(root.dataset.state), { part, input } = parts(root);

  function show() {
    const found = explore(state.set, state.y, state.size);
    draw(part, scene(found), words(found));
    root.dataset.flat = String(shape(state.set, state.size).equal.length > 0);
    root.dataset.rank = found.face_dimension;
    root.dataset.feasible = String(found.violation_y < NEAR);
    const where = `y₁ ${fixed(state.y[0], 2)}, y₂ ${fixed(state.y[1], 2)}`;
    part.y.setAttribute("aria-valuenow", fixed(state.y[0], 2, "-"));
    part.y.setAttribute("aria-valuetext", where);
    [input.y1.value, input.y2.value] = state.y;
    input.size.value = state.size;
    input.set.value = state.set;
    for (const [name, value] of [["y1", state.y[0]], ["y2", state.y[1]], ["size", state.size]])
      part["value-" + name].textContent = fixed(value, 2);
    root.dataset.state = JSON.stringify(state);
  }
  // On a grid of dyadic numbers the arithmetic is exact, so kinks and corners can be hit, not only approached.
  function move(y) {
    state.y = y.map((v) => clip(Math.round(v * GRID) / GRID, -REACH, REACH));
    show();
  }

  input.y1.addEventListener("input", () => move([Number(input.y1.value), state.y[1]]));
  input.y2.addEventListener("input", () => move([state.y[0], Number(input.y2.value)]));
  input.size.addEventListener("input", () => { state.size = Number(input.size.value); show(); });
  input.set.addEventListener("change", () => { state.set = input.set.value; show(); });
  arrows(part.y, (step, far) => move(along(state.y, far ? 1 / 4 : 1 / 16, step)));
  drag(root.querySelector("svg"), part.y, (x, y) => move([(x - HALF) / SCALE, (HALF - y) / SCALE]));

  root.explore = explore;
  root.scene = scene;
  root.words = words;
  show();
}

begin("explorer", start);
