// What the browser tests ask a page about itself; put into the page after it has settled.
window.look = {
  // Open every part that a reader can open, so that what is inside is looked at too.
  openAll() {
    for (const box of document.querySelectorAll("details")) box.open = true;
    for (const button of document.querySelectorAll(".toggle-button-hidden")) button.click();
  },

  ids: () => [...document.querySelectorAll("[id]")].map((node) => node.id),

  formulas() {
    const start = (node) => node.textContent.trim().slice(0, 80);
    const nodes = [...document.querySelectorAll(".math")].filter((node) => !node.closest("pre, code"));
    const drawn = [...document.querySelectorAll("mjx-container")];
    const walker = document.createTreeWalker(document.querySelector("article") || document.body, NodeFilter.SHOW_TEXT);
    const raw = [];
    for (let text = walker.nextNode(); text; text = walker.nextNode()) {
      if (text.parentElement.closest("pre, code, script, style, textarea, mjx-container")) continue;
      if (/\\\(|\\\[|\$[^$]*\$|\{[\w:]+\}`|^:::|```/.test(text.data)) raw.push(text.data.trim().slice(0, 80));
    }
    return {
      nodes: nodes.length,
      drawn: drawn.length,
      undrawn: nodes.filter((node) => node.querySelectorAll("mjx-container").length !== 1).map(start),
      errors: [...document.querySelectorAll('mjx-merror, [data-mjx-error], mjx-mtext[style*="red"]')].map(start),
      unspoken: drawn.filter((node) => !node.querySelector("mjx-assistive-mml") && !node.ariaLabel).length,
      raw,
    };
  },

  // What reaches beyond the window is fine only inside a box that scrolls: a box that cuts it off hides it.
  async stickingOut() {
    await new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go))); // the page answers a new width first
    const width = document.documentElement.clientWidth;
    const found = [];
    if (document.documentElement.scrollWidth > width)
      found.push(`the page is ${document.documentElement.scrollWidth} px wide in a window of ${width} px`);
    for (const node of document.querySelectorAll("main *")) {
      if (node.ownerSVGElement) continue; // a drawing may be larger than its frame
      const box = node.getBoundingClientRect();
      if (box.width < 2 || box.height < 2 || box.right <= width + 1) continue;
      if (node.closest("mjx-assistive-mml, dialog:not([open]), .bd-sidebar-secondary, .visually-hidden")) continue;
      let around = node.parentElement, style = getComputedStyle(around);
      while (around.parentElement && (style.overflowX === "visible" || style.display === "inline")) {
        around = around.parentElement;
        style = getComputedStyle(around);
      }
      if (["auto", "scroll"].includes(style.overflowX)) continue;
      const name = node.tagName.toLowerCase() + (node.classList.length ? "." + [...node.classList].join(".") : "");
      found.push(`${name} reaches ${Math.round(box.right)} px: ${node.textContent.trim().slice(0, 40)}`);
      if (found.length > 5) break;
    }
    return found;
  },

  // Make a long chapter quick for axe, with nothing left out. Its formulas are twenty thousand boxes for glyphs, hidden from
  // screen readers and without text of their own: each formula keeps its size, and its spoken form as one text. Its code is
  // nine thousand coloured words: one of each colour on each ground stays coloured, the others join the text around them.
  lighten() {
    const drawn = [...document.querySelectorAll("mjx-math")].map((node) => [node, node.getBoundingClientRect()]);
    for (const [node, box] of drawn) {
      Object.assign(node.style, { display: "inline-block", width: `${box.width}px`, height: `${box.height}px` });
      node.replaceChildren();
    }
    for (const spoken of document.querySelectorAll("mjx-assistive-mml math")) spoken.textContent = spoken.textContent;
    const seen = new Set();
    for (const word of document.querySelectorAll("pre span[class], dt.sig span[class]")) {
      const kind = [word, word.parentElement, word.closest("[class*=highlight], .output, dt")].map((node) => node?.className).join("|");
      if (seen.has(kind)) word.replaceWith(...word.childNodes);
      seen.add(kind);
    }
    for (const box of document.querySelectorAll("pre, dt.sig")) box.normalize();
  },

  async axe(what) {
    const result = await axe.run(document, { runOnly: what, resultTypes: ["violations"], preload: false });
    return result.violations.flatMap((violation) =>
      violation.nodes.map((node) => {
        const reasons = [...node.any, ...node.all, ...node.none].map((check) => check.message).join("; ");
        return `${violation.id}: ${node.html.slice(0, 160)} - ${reasons.slice(0, 240)}`;
      }),
    );
  },
};
