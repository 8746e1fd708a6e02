"""Lay out the pages: numbers, folds, figures, citations, page weight and URLs."""

from typing import Any

from sphinx.application import Sphinx

from theme import (
    about,
    credits,
    diagram,
    exercises,
    figures,
    folds,
    formulas,
    numbering,
    pictures,
    publishing,
    redirects,
    slimming,
)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register all; URLs first, because other extensions read them."""
    credits.register(app)
    slimming.register(app)
    app.add_config_value("repository", "", "env")
    app.add_config_value("redirects", {}, "html")
    app.add_directive("pipeline", diagram.Pipeline)
    app.add_directive("exercises", exercises.Exercises)
    app.add_directive("living", figures.Living)
    app.add_post_transform(pictures.Inline)
    app.add_post_transform(formulas.KeepTogether)
    app.add_post_transform(numbering.ListingNumber)
    app.add_html_math_renderer(
        "mathml", (formulas.inline, None), (formulas.block, None)
    )
    app.connect("config-inited", publishing.configure, priority=100)
    app.connect("config-inited", numbering.configure)
    app.connect("builder-inited", slimming.mark_few)
    app.connect("env-get-outdated", credits.bibliographies)
    app.connect("env-get-updated", numbering.letter_appendices)
    app.connect("write-started", numbering.number_by_chapter)
    app.connect("doctree-read", folds.fold)
    app.connect("doctree-resolved", about.state_time)
    app.connect("html-collect-pages", redirects.pages)
    app.connect("html-page-context", about.describe, priority=100)
    app.connect("html-page-context", publishing.leave_out_card, priority=100)
    app.connect("html-page-context", figures.load)
    app.connect("html-page-context", slimming.tidy)
    app.connect("build-finished", figures.write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
