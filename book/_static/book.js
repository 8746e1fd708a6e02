// Output that stands in columns keeps its lines; text wraps.
for (const output of document.querySelectorAll(".bd-article .cell_output pre")) {
  output.classList.toggle("columns", /\S {2,}\S|^ +\S/m.test(output.textContent));
}

// A figure, a table or a formula wider than a phone scrolls in its own box, and says so.
// So that the keyboard can scroll it, too, the box takes the focus.
function markWhatScrolls() {
  for (const box of document.querySelectorAll(
    ".bd-article :is(figure, .pst-scrollable-table-container, div.math)",
  )) {
    const scrolls = box.scrollWidth > box.clientWidth;
    box.classList.toggle("scrolls", scrolls);
    if (scrolls) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
addEventListener("load", markWhatScrolls);
addEventListener("resize", markWhatScrolls);

// Paper is white: what is printed is printed in the light colours. Nothing can be
// opened there, so all that is folded is open.
let shownTheme;
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const details of opened) details.open = true;
  shownTheme = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
});
addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
  document.documentElement.dataset.theme = shownTheme;
});

// A search quotes the text, without buttons, line numbers and the labels of folds.
// Excerpts have to be fetched, which a browser refuses to a file.
const FURNITURE =
  ".headerlink, .linenos, .reading-time, .pipeline, .collapsed, .expanded, button, script, style, summary";
if (typeof Search !== "undefined") {
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    for (const piece of page.querySelectorAll(FURNITURE)) piece.remove();
    let place = anchor ? page.querySelector(anchor) : null;
    if (place?.matches("dt")) place = place.nextElementSibling; // what the term means
    place ||= page.querySelector("article.bd-article");
    return place?.textContent.replace(/\s+/g, " ") ?? "";
  };
  // A function's listing comes before all that mentions it; what only contains its name,
  // after the pages.
  Scorer.objPartialMatch = -10;
  Scorer.score = ([page, name, anchor, description, score]) =>
    anchor.startsWith("#listing-") && score > Scorer.objPrio[0] ? score + 100 : score;
}
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// A notebook is saved, never shown. From a file, a script hands its text over.
let notebook;
function saveNotebook(text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/x-ipynb+json" }));
  link.download = notebook;
  link.click();
  URL.revokeObjectURL(link.href);
}
for (const link of document.querySelectorAll('a[href$=".ipynb"][href*="notebooks/"]:not([href*=":"])')) {
  link.download = "";
  link.removeAttribute("target");
  if (location.protocol !== "file:") continue;
  link.addEventListener("click", (event) => {
    event.preventDefault();
    notebook = link.pathname.split("/").pop();
    const script = document.createElement("script");
    script.src = `${document.documentElement.dataset.content_root}_static/notebooks/${notebook}.js`;
    script.onload = () => script.remove();
    document.head.append(script);
  });
}
