// The list of groups with its filters. The address contains the filters, so that back and forward keep them.

const ROWS = 100; // shown at first; a button shows more
const FILTERS = {
  all_wrong: ["all wrong", (group) => group.is_all_wrong],
  near_miss: ["with a near miss", (group) => group.rollouts.some((rollout) => rollout.kind === "near_miss")],
  no_signal: ["without signal", (group) => !group.has_signal],
};

function groupsHash(filters) {
  const given = Object.entries(filters).filter(([, value]) => value);
  return "#/groups" + (given.length ? "?" + new URLSearchParams(given) : "");
}

// Indices in REPORT.groups of the groups that pass the filters {series, step, text, all_wrong, near_miss, no_signal}.
function filteredGroups(filters) {
  const words = (filters.text || "").toLowerCase().split(/\s+/).filter(Boolean);
  const tests = Object.keys(FILTERS).filter((name) => filters[name]).map((name) => FILTERS[name][1]);
  const places = [];
  REPORT.groups.forEach((group, place) => {
    if (filters.series && group.series !== filters.series) return;
    if (filters.step && String(group.step) !== filters.step) return;
    if (!tests.every((test) => test(group))) return;
    if (words.every((word) => searchText(group).includes(word))) places.push(place);
  });
  return places;
}

function searchText(group) {
  group.searchText ??= [group.question, ...group.golden_answers].join("\n").toLowerCase();
  return group.searchText;
}

function showGroups(filters) {
  const count = make("p", { class: "quiet", "aria-live": "polite", id: "count" });
  const list = make("ol", { class: "rows", id: "rows" });
  const more = make("button", { type: "button", id: "more" });
  let places = [];
  let shown = 0;
  const showMore = () => {
    list.append(...places.slice(shown, shown + ROWS).map((place) => make("li", {}, groupRow(place))));
    shown = Math.min(places.length, shown + ROWS);
    more.hidden = shown === places.length;
    more.textContent = `Show ${Math.min(ROWS, places.length - shown)} more of ${(places.length - shown).toLocaleString("en")}`;
  };
  const update = () => {
    const given = readFilters(form);
    places = filteredGroups(given);
    lastPlaces = places;
    list.replaceChildren();
    shown = 0;
    showMore();
    count.textContent = counted(places.length, "group");
    groupsAddress = groupsHash(given);
    history.replaceState(null, "", groupsAddress);
  };
  more.addEventListener("click", showMore);
  const form = filterForm(filters, update);
  update();
  return [make("h1", {}, "Groups"), form, count, list, make("div", { class: "pager" }, more)];
}

// The last filtered list: its address, and the groups that "next" and "previous" go through.
let groupsAddress = "#/groups";
let lastPlaces = REPORT.groups.map((_, place) => place);

function filterForm(filters, update) {
  const series = [...new Set(REPORT.groups.map((group) => group.series))];
  const steps = [...new Set(REPORT.groups.filter((group) => group.step != null).map((group) => group.step))].sort((a, b) => a - b);
  const choice = (name, label, values) =>
    make("label", {}, label, make("select", { name, onchange: update },
      make("option", { value: "" }, "all"),
      values.map((value) => make("option", { value, selected: String(value) === filters[name] }, String(value)))));
  return make("form", { class: "filters", id: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    make("input", {
      type: "search", name: "text", id: "search", placeholder: "Search questions and gold answers ( / )",
      "aria-label": "Search questions and gold answers", value: filters.text, oninput: update,
    }),
    series.length > 1 && choice("series", "of ", series),
    steps.length > 1 && choice("step", "step ", steps),
    Object.entries(FILTERS).map(([name, [label]]) =>
      make("label", {}, make("input", { type: "checkbox", name, value: "1", checked: Boolean(filters[name]), onchange: update }), label)));
}

function readFilters(form) {
  return Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
}

function groupRow(place) {
  const group = REPORT.groups[place];
  const isAlone = group.rollouts.length === 1; // its square shows everything
  const tags = isAlone ? [] : [group.is_all_wrong && "all wrong", !group.has_signal && "no signal"].filter(Boolean);
  return make("a", { class: "row", href: `#/group/${place}` },
    make("span", { class: "quiet" }, stepName(group)),
    make("span", { class: "question" }, group.question || "(no question)", " ",
      make("span", { class: "quiet" }, group.golden_answers.join(" / "))),
    make("span", {}, tags.map((tag) => [make("span", { class: "tag" }, tag), " "]),
      make("span", { class: "strip" }, group.rollouts.map(rolloutDot))));
}

// A rollout as a square: its colour is the kind, its number the turn of the first occurrence.
function rolloutDot(rollout) {
  const hit = rollout.first_occurrence;
  const title = `${kindName(rollout.kind)}, outcome ${number(rollout.outcome)}` +
    (hit == null ? "" : `, first occurrence in turn ${hit}`);
  return make("span", { class: `dot ${rollout.kind || "unscorable"}`, title, role: "img", "aria-label": title }, hit == null ? "·" : String(hit));
}
