// The theme wraps wide tables, which then scroll, after the page has loaded: let the keyboard reach them, and name its search.
const name = () => {
  for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    wrap.tabIndex = 0;
    wrap.setAttribute("role", "group");
    wrap.setAttribute("aria-label", "Table");
  }
  document.querySelector(".md-search:not([aria-label])")?.setAttribute("aria-label", "Search");
};
new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
name();
