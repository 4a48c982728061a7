// The theme makes each box that scrolls reachable by the Tab key, but measures only when the window changes: a box inside a closed
// part has no size then. So it is told to measure again when a part is opened.
document.addEventListener("toggle", () => window.dispatchEvent(new Event("resize")), true);
document.addEventListener("click", (event) => {
  if (event.target.closest(".toggle-button")) window.dispatchEvent(new Event("resize"));
});
