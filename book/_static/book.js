// A figure wider than a phone scrolls in its own box; so that the keyboard can scroll it,
// too, the box takes the focus. (The theme does the same for code and tables.)
function letKeyboardScroll() {
  for (const figure of document.querySelectorAll(".bd-article figure")) {
    const scrolls = figure.scrollWidth > figure.clientWidth;
    figure.classList.toggle("scrolls", scrolls);
    if (scrolls) figure.tabIndex = 0;
    else figure.removeAttribute("tabindex");
  }
}
addEventListener("load", letKeyboardScroll);
addEventListener("resize", letKeyboardScroll);

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
