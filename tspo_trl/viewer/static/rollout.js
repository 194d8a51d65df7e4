// A rollout turn by turn: text, queries, evidence and credit.

function showRollout(place, i) {
  const group = REPORT.groups[place];
  const rollout = group.rollouts[i];
  const back = make("a", { href: `#/group/${place}`, id: "to-group" }, `the group of ${counted(group.rollouts.length, "rollout")}`);
  return [
    pager(i > 0 ? i - 1 : undefined, i + 1 < group.rollouts.length ? i + 1 : undefined, "rollout",
      (to) => `#/group/${place}/rollout/${to}`, back),
    ...groupHeading(group),
    make("p", {}, make("strong", {}, `Rollout ${i + 1}`), " ", kindTag(rollout)),
    creditNote(group),
    make("div", { id: "turns" }, rollout.turns.map((turn, k) => turnCard(turn, k, rollout.first_occurrence === k))),
    make("div", { class: "end", id: "end" },
      make("div", {}, make("strong", {}, endReason(rollout)), " ",
        make("span", { class: "quiet" }, rollout.end_reason)),
      make("div", {}, "Answer: ", make("strong", {}, rollout.prediction ?? "none")),
      make("div", { class: "number" }, `Outcome reward ${number(rollout.outcome)}`)),
  ];
}

function endReason({ end_reason: reason }) {
  const label = REPORT.labels.end_reasons[reason];
  return label ? label + "." : reason;
}

function turnCard(turn, k, isFirstOccurrence) {
  return make("section", { class: "turn", tabindex: "-1", "aria-label": `Turn ${k}`, ...creditColours(turn.advantage) },
    make("header", {}, make("h3", {}, `Turn ${k}`), make("span", {}, turn.action || "no action"),
      isFirstOccurrence && make("span", { class: "tag first" }, "first occurrence"),
      make("span", { class: "numbers" }, make("span", {}, `reward ${number(turn.reward)}`),
        make("strong", {}, `advantage ${signed(turn.advantage)}`))),
    make("div", {},
      labelled("The model wrote", make("pre", {}, turn.text.trim() || "(nothing)")),
      turn.queries.length > 0 && labelled(turn.queries.length > 1 ? "Queries" : "Query",
        turn.queries.map((query) => make("p", { class: "query" }, query))),
      turn.evidence != null && labelled("It read", REPORT.evidences[turn.evidence].map(passage)),
      turn.feedback != null && labelled("Feedback", make("pre", {}, turn.feedback.trim()))));
}

function labelled(label, ...content) {
  return [make("div", { class: "label" }, label), ...content];
}

function passage({ heading, text }) {
  return make("div", { class: "passage" },
    heading.some(Boolean) && make("div", { class: "heading" }, markedText(heading)),
    make("p", {}, markedText(text)));
}
