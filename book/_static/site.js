// The theme makes each box that scrolls reachable by the Tab key, but measures only when the window changes: a box inside a closed
// part has no size then. So it is told to measure again when a part is opened.
document.addEventListener("toggle", () => window.dispatchEvent(new Event("resize")), true);
document.addEventListener("click", (event) => {
  if (event.target.closest(".toggle-button")) window.dispatchEvent(new Event("resize"));
});

// A formula within the text cannot be broken over two lines: one that is wider than its paragraph, as some are on a phone, gets a box
// of its own that scrolls. (A box for every formula would lift them all off the line.)
function boxWideFormulas() {
  const formulas = [...document.querySelectorAll('.bd-article mjx-container:not([display="true"])')];
  for (const formula of formulas) formula.classList.remove("too-wide");
  const wide = formulas.filter((formula) => {
    let around = formula.parentElement;
    while (getComputedStyle(around).display.startsWith("inline")) around = around.parentElement; // the theme makes .math inline-flex
    const kept = formula.closest(".kept") || formula; // with the comma behind it
    return around.clientWidth > 0 && kept.offsetWidth > around.clientWidth;
  });
  for (const formula of wide) formula.classList.add("too-wide");
}

window.addEventListener("load", async () => {
  if (!window.MathJax || !MathJax.startup) return;
  await MathJax.startup.promise;
  boxWideFormulas();
  let width = innerWidth;
  window.addEventListener("resize", (event) => {
    // Our own event, which says that a part was opened, comes without a new width.
    if (event.isTrusted && innerWidth === width) return;
    width = innerWidth;
    boxWideFormulas();
  });
});
