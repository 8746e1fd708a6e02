// A figure wider than a phone scrolls in its own box; so that the keyboard can scroll it,
// too, the box takes the focus. (The theme does the same for code and tables.)
function letKeyboardScroll() {
  for (const figure of document.querySelectorAll(".bd-article figure")) {
    if (figure.scrollWidth > figure.clientWidth) figure.tabIndex = 0;
    else figure.removeAttribute("tabindex");
  }
}
addEventListener("load", letKeyboardScroll);
addEventListener("resize", letKeyboardScroll);
