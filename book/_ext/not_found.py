"""Write `404.html` at the site's root from `book/404.md`.

A host shows that file at whatever address was missed, however deep, so it loads nothing and stands alone; its
links are written from the site's root, which a short script finds.
"""

import re
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from sphinx.application import Sphinx

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="description" content="{description}">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 10vh auto; padding: 0 1.2rem;
  background: #ffffff; color: #222832; }}
a {{ color: #0a58a8; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #14181e; color: #ced6dd; }} a {{ color: #8fc7ff; }} }}
</style>
</head>
<body>
<main>
{body}
</main>
<script>
// The page is shown at any missed address. The site's root is the deepest folder above that holds the book's index;
// where none answers, it is where the repository's own pages would be.
(async function () {{
  var links = document.querySelectorAll("main a[href]"), written = [];
  function lead(root) {{
    links.forEach(function (link, i) {{ link.setAttribute("href", root + written[i]); }});
  }}
  links.forEach(function (link) {{ written.push(link.getAttribute("href")); }});
  lead({prefix});
  for (var above = location.pathname.split("/").slice(0, -1); above.length; above.pop()) {{
    var root = above.join("/") + "/";
    try {{
      var answer = await fetch(root + "objects.inv");
      await answer.arrayBuffer();
      if (answer.ok) return lead(root);
    }} catch (error) {{ return; }}
  }}
}})();
</script>
</body>
</html>
"""


def prefix(repository: str) -> str:
    """Return the path under which GitHub Pages serves the repository; "/" while the address is unset."""
    name = urlsplit(repository).path.strip("/").split("/")[-1]
    return f"/{name}/" if name and not name.endswith(".github.io") else "/"


def write(app: Sphinx, error: Exception | None) -> None:
    """Render the page once the others are written."""
    source = Path(app.srcdir) / "book" / "404.md"
    if error or app.builder.name != "html" or not source.is_file():
        return
    text = re.sub(r"\A---\n.*?\n---\n", "", source.read_text(encoding="utf-8"), flags=re.S)
    body = MarkdownIt().render(text)
    title = re.search(r"<h1>(.*?)</h1>", body)
    paragraph = re.search(r"<p>(.*?)</p>", body, flags=re.S)
    plain = re.sub(r"<[^>]+>", "", paragraph.group(1)) if paragraph else ""
    page = PAGE.format(
        title=title.group(1) if title else "Not found",
        description=escape(re.sub(r"\s+", " ", plain), quote=True),
        body=body,
        prefix=repr(prefix(app.config.html_theme_options.get("repository_url", ""))),
    )
    (Path(app.outdir) / "404.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
