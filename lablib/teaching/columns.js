// The twin of columns.py: `look`, `scene` and `words` say in JavaScript what it says in Python, so that the picture moves
// with no kernel. tests/widgets compares the two on random states.
const NAMES = ["penalty", "link"], DIGITS = { penalty: 3, link: 2 }, PENALTY = [0, 1.1];
const TRUTH = [[0.94, 0.34], [0.66, -0.24], [0.1, 0.33], [0, 0]], LINKED = [[3], [3], [], [0, 1]];
const GRID = 40, POINTS = 45, SWEEPS = 2000, SETTLED = 1e-13, LEFT = 70, BOTTOM = 290, ACROSS = 355, UP = 250;

const length = (w) => Math.sqrt(dot(w, w)), nothing = () => TRUTH.map(() => [0, 0]);

// Column j of (W* - W) G.
function pullOf(W, j, link) {
  let x = TRUTH[j][0] - W[j][0], y = TRUTH[j][1] - W[j][1];
  for (const k of LINKED[j]) {
    x += link * (TRUTH[k][0] - W[k][0]);
    y += link * (TRUTH[k][1] - W[k][1]);
  }
  return [x, y];
}

// Each column at its best for the others, until none moves.
function solve(given, penalty, link) {
  const W = [...given];
  for (let i = 0; i < SWEEPS; i += 1) {
    let moved = 0;
    for (let j = 0; j < 4; j += 1) {
      const old = W[j], [x, y] = along(pullOf(W, j, link), 1, old), size = length([x, y]);
      const keep = size > penalty ? 1 - penalty / size : 0;
      W[j] = [keep * x, keep * y];
      moved = Math.max(moved, Math.abs(W[j][0] - old[0]), Math.abs(W[j][1] - old[1]));
    }
    if (moved <= SETTLED) break;
  }
  return W;
}

function look(penalty, link) {
  const path = [];
  let W = nothing();
  for (let i = POINTS - 1; i >= 0; i -= 1) {
    W = solve(W, i / GRID, link);
    path.push(W.map(length));
  }
  W = solve(nothing(), penalty, link);
  const lengths = W.map(length);
  return {
    penalty, link, path: path.reverse(), lengths, pulls: W.map((_, j) => length(pullOf(W, j, link))),
    zeros: lengths.filter((size) => size === 0).length,
    right: lengths[3] === 0 && Math.min(...lengths.slice(0, 3)) > 0,
  };
}

// What is drawn: [part, attribute, value] for every part that moves.
const place = (penalty, size) => `${fixed(LEFT + ACROSS * penalty, 1, "-")} ${fixed(BOTTOM - UP * size, 1, "-")}`;

function scene(state) {
  const { path, penalty, lengths } = state, lines = lengths.flatMap((size, j) => [
    [`path-${j + 1}`, "d", "M" + path.map((at, i) => place(i / GRID, at[j])).join("L")],
    [`dot-${j + 1}`, "transform", `translate(${place(penalty, size)})`],
  ]);
  let top = 0;
  path.forEach((at, i) => { if (at[3] > path[top][3]) top = i; });
  return [
    ...lines, ["number-4", "x", fixed(LEFT + ACROSS * (path[top][3] > 0 ? top / GRID : 1), 1)],
    ["number-4", "y", fixed(BOTTOM - UP * path[top][3] - 12, 1)], ["here", "d", `M${place(penalty, 0)}V8`],
    ["hand", "transform", `translate(${place(penalty, 0)})`],
  ];
}

// What is said: [part, text] for every line of the read-out.
function words(state) {
  const lines = state.lengths.map((size, j) => {
    const pull = fixed(state.pulls[j], 3);
    return [`said-${j + 1}`,
      size > 0 ? `length ${fixed(size, 3)}, pull ${pull} = μ` : `zero, pull ${pull} ≤ μ`];
  });
  const wrong = state.lengths.flatMap((size, j) => (size > 0) === (j < 3) ? [] : [j + 1]);
  return [
    ["zeros", `${state.zeros} of 4`], ["stranger", fixed(state.lengths[3], 4)],
    ["said-penalty", `μ = ${fixed(state.penalty, 3)}`], ...lines,
    ["said-support", wrong.length ? `wrong about column ${wrong.join(" and ")}` : "right: 1, 2, 3 and not 4"],
  ];
}

function start(root) {
  const state = JSON.parse(root.dataset.state), { part, input } = parts(root);

  function show() {
    const found = look(state.penalty, state.link);
    draw(part, scene(found), words(found));
    root.dataset.feasible = String(found.right);
    part.hand.setAttribute("aria-valuenow", fixed(state.penalty, 3, "-"));
    for (const name of NAMES) {
      input[name].value = state[name];
      part["value-" + name].textContent = fixed(state[name], DIGITS[name]);
    }
    root.dataset.state = JSON.stringify(state);
  }
  const move = (penalty) => { state.penalty = clip(Math.round(penalty * GRID) / GRID, ...PENALTY); show(); };

  for (const name of NAMES)
    input[name].addEventListener("input", () => { state[name] = Number(input[name].value); show(); });
  arrows(part.hand, ([across, up], far) => move(state.penalty + (across + up) * (far ? 0.1 : 1 / GRID)));
  drag(root.querySelector(".co-plane"), part.hand, (x) => move((x - LEFT) / ACROSS));

  root.look = look;
  root.scene = scene;
  root.words = words;
  show();
}

begin("columns", start);
