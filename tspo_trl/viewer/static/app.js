// Pages by address, keys and theme.

const CONTENT = document.getElementById("content");
const ITEMS = { groups: ".row", group: ".column", rollout: ".turn" }; // selected with j and k
let current = null;

// The page of the address, or the overview if there is no such page.
function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, place, , i] = path.split("/");
  const group = REPORT.groups[Number(place)];
  if (page === "groups") return { page, up: "#/", draw: () => showGroups(Object.fromEntries(new URLSearchParams(query))) };
  if (page === "group" && group && i === undefined) return { page, up: groupsAddress, draw: () => showGroup(Number(place)) };
  if (page === "group" && group && group.rollouts[Number(i)]) {
    return { page: "rollout", up: `#/group/${place}`, draw: () => showRollout(Number(place), Number(i)) };
  }
  return { page: "overview", up: "#/", draw: showOverview };
}

function draw() {
  const isFirst = current === null;
  current = route();
  document.body.dataset.page = current.page;
  CONTENT.replaceChildren(...current.draw().flat(Infinity).filter(Boolean));
  for (const [id, isHere] of [["to-overview", current.page === "overview"], ["to-groups", current.page !== "overview"]]) {
    const link = document.getElementById(id);
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (isFirst) return;
  CONTENT.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

// Draw another page at once. A change of the hash would draw it later, and the next key would go to this page.
function go(address) {
  history.pushState(null, "", address);
  draw();
}

function moveFocus(by) {
  const items = [...CONTENT.querySelectorAll(ITEMS[current.page] || "a")];
  const at = items.indexOf(document.activeElement);
  const more = document.getElementById("more");
  if (by > 0 && at === items.length - 1 && more && !more.hidden) {
    more.click();
    moveFocus(by);
    return;
  }
  const item = items[at < 0 ? 0 : Math.max(0, Math.min(items.length - 1, at + by))];
  if (item) {
    item.focus();
    item.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}

function searchQuestions() {
  if (current.page !== "groups") {
    go(groupsAddress);
  }
  document.getElementById("search").select();
}

function click(id) {
  const button = document.getElementById(id);
  if (button) button.click();
}

const KEYS = {
  o: () => go("#/"),
  g: () => go(groupsAddress),
  "/": searchQuestions,
  j: () => moveFocus(1),
  k: () => moveFocus(-1),
  n: () => click("next"),
  p: () => click("previous"),
  u: () => go(current.up),
  Escape: () => go(current.up),
  t: switchTheme,
  "?": () => document.getElementById("help").showModal(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("help").open) return;
  if (event.target.matches("input, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function switchTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("tspo-trl-theme", theme);
  } catch { /* some browsers store nothing for files */ }
}

function setTheme() {
  let theme = null;
  try {
    theme = localStorage.getItem("tspo-trl-theme");
  } catch { /* some browsers store nothing for files */ }
  const prefersDark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = theme || (prefersDark ? "dark" : "light");
}

setTheme();
document.getElementById("theme").addEventListener("click", switchTheme);
document.getElementById("help-button").addEventListener("click", KEYS["?"]);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  CONTENT.focus();
});
window.addEventListener("hashchange", draw);
window.addEventListener("keydown", onKey);
draw();
