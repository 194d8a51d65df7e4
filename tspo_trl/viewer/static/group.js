// A group side by side: one column per rollout, one cell per turn.

function showGroup(place) {
  const group = REPORT.groups[place];
  return [
    pager(neighbour(place, -1), neighbour(place, 1), "group", (to) => `#/group/${to}`),
    ...groupHeading(group),
    make("p", {}, group.is_all_wrong && [make("span", { class: "tag" }, "all wrong"), " "],
      make("span", { class: "tag" }, group.has_signal ? "with signal" : "no signal")),
    creditNote(group),
    make("div", { class: "columns", id: "columns" }, group.rollouts.map((rollout, i) => rolloutColumn(rollout, place, i))),
  ];
}

function groupHeading(group) {
  return [
    make("h1", {}, group.question || "(no question)"),
    make("p", {}, "Gold: ", make("strong", {}, group.golden_answers.join(" / "))),
    make("p", { class: "quiet" }, stepName(group)),
  ];
}

function creditNote(group) {
  if (group.has_recorded_credit) return null;
  return make("p", { class: "quiet" },
    REPORT.labels.computed_credit,
    group.rollouts.length === 1 && " A single rollout has no group to compare with, and so no advantage.");
}

function rolloutColumn(rollout, place, i) {
  return make("a", { class: `column ${rollout.kind || ""}`, href: `#/group/${place}/rollout/${i}` },
    make("header", {}, make("strong", {}, `Rollout ${i + 1}`), " ", kindTag(rollout)),
    rollout.turns.map((turn, k) => turnCell(turn, k, rollout)),
    make("footer", {},
      make("div", {}, "Answer: ", make("strong", {}, rollout.prediction ?? "none")),
      make("div", { class: "number" }, `Outcome ${number(rollout.outcome)}`),
      make("div", { class: "quiet" }, rollout.end_reason)));
}

function turnCell(turn, k, rollout) {
  return make("div", { class: "cell", ...creditColours(turn.advantage) },
    make("div", { class: "credit" }, make("span", {}, `turn ${k}`),
      make("span", {}, `reward ${number(turn.reward)}`), make("strong", {}, signed(turn.advantage))),
    make("div", {}, turnSummary(turn)),
    rollout.first_occurrence === k && make("span", { class: "tag first" }, "first occurrence"));
}

function turnSummary(turn) {
  if (turn.action === "search") return turn.queries.map((query) => make("div", {}, "search: ", query));
  const text = turn.text.trim();
  const short = text.length > 140 ? "…" + text.slice(-140) : text;
  return turn.action === "answer" ? short : make("span", { class: "quiet" }, short || "(empty)");
}

// The next or previous group in the last filtered list, or undefined at its end.
function neighbour(place, by) {
  const places = lastPlaces.includes(place) ? lastPlaces : REPORT.groups.map((_, i) => i);
  return places[places.indexOf(place) + by];
}

function pager(previous, next, noun, hash, ...others) {
  const link = (to, label, id) => make("button", {
    type: "button", id, disabled: to === undefined, onclick: () => go(hash(to)),
  }, label);
  return make("div", { class: "pager" }, link(previous, `← previous ${noun}`, "previous"), link(next, `next ${noun} →`, "next"), others);
}
