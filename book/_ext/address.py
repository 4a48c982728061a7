"""Show launch and repository buttons only where they lead somewhere.

While `_config.yml` holds no address they are hidden. With one, the Colab button stands on the labs alone:
a chapter's MyST directives would show raw there, and a lab is plain Markdown.
"""

from sphinx.application import Sphinx
from sphinx.config import Config


def configure(app: Sphinx, config: Config) -> None:
    """Take the buttons away while the address is unset, add the repository's own when it is set."""
    options = config.html_theme_options
    known = bool(options.get("repository_url"))
    if not known:
        options["launch_buttons"] = {}
    options["use_repository_button"] = options["use_issues_button"] = known


def keep_on_labs(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Drop the launch button from every page that is not a lab."""
    if not pagename.startswith("labs/") and "header_buttons" in context:
        context["header_buttons"] = [
            button for button in context["header_buttons"] if button.get("label") != "launch-buttons"
        ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx; 502 comes after the theme has put its buttons there."""
    app.connect("config-inited", configure)
    app.connect("html-page-context", keep_on_labs, priority=502)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
