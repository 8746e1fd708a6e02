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

// Excerpts of what was found have to be fetched, which a browser refuses to a file.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
