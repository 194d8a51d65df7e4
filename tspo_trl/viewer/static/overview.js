// The overview: learning curve, kinds of trajectory and signal over the steps of each series.

function showOverview() {
  return [
    make("h1", {}, document.title),
    make("p", { class: "quiet" }, overviewLine()),
    cards(),
    make("div", { class: "charts" }, overviewCharts()),
    make("h2", {}, "By step"),
    stepTable(),
  ];
}

function allSeries() {
  return [...new Set(REPORT.steps.map((entry) => entry.series))];
}

function overviewLine() {
  const groups = REPORT.steps.reduce((sum, entry) => sum + entry.groups, 0);
  const trajectories = (count) => counted(count, "trajectory", "trajectories");
  const kept = REPORT.kept === REPORT.n ? "" : ` The pages of groups show ${trajectories(REPORT.kept)}, spread evenly.`;
  return `${trajectories(REPORT.n)} in ${counted(groups, "group")} of ${allSeries().join(", ")}.${kept}`;
}

// The first and last step of the first series, which is training if there is any.
function cards() {
  const entries = REPORT.steps.filter((entry) => entry.series === allSeries()[0]);
  const [first, last] = [entries[0], entries[entries.length - 1]];
  const card = (name, label, show = percent) => {
    const value = first === last ? show(last[name]) : `${show(first[name])} → ${show(last[name])}`;
    return make("div", { class: "card" }, make("div", { class: "value" }, value), make("div", { class: "label" }, label));
  };
  return [
    make("p", { class: "quiet" }, first === last ? stepName(last) : `${first.series}, from step ${first.step} to step ${last.step}`),
    make("div", { class: "cards" },
      card("outcome", "mean outcome reward", (value) => number(value, 3)),
      card("near_miss", "near misses"),
      card("all_wrong", "groups that are all wrong"),
      card("with_signal", "groups with signal"),
      card("with_signal_grpo", "with signal to GRPO")),
  ];
}

const SERIES_COLOURS = ["complete_success", "near_miss", "success_without_retrieval", "positive", "negative", "complete_failure"];

// The learning curve of all series, then the kinds and the signal of each series with more than one step.
function overviewCharts() {
  const curves = allSeries().map((series, i) => ({
    name: series,
    colour: `var(--${SERIES_COLOURS[i % SERIES_COLOURS.length]})`,
    points: pointsOf(series, "outcome"),
  }));
  const grown = curves.filter((curve) => curve.points.length > 1).map((curve) => curve.name);
  if (grown.length === 0) return [];
  return [lineChart("Mean outcome reward", curves, ""), ...grown.flatMap((series) => seriesCharts(series, grown.length > 1))];
}

function seriesCharts(series, isNamed) {
  const title = (text) => (isNamed ? `${text}: ${series}` : text);
  const kinds = Object.entries(REPORT.labels.kinds).reverse()
    .map(([kind, name]) => ({ name, colour: `var(--${kind})`, points: pointsOf(series, kind) }));
  return [
    stackedChart(title("Kinds of trajectory"), kinds, series),
    lineChart(title("Share of groups"), [
      { name: "with signal", colour: "var(--positive)", points: pointsOf(series, "with_signal") },
      { name: "with signal to GRPO", colour: "var(--negative)", dashed: true, points: pointsOf(series, "with_signal_grpo") },
      { name: "all wrong", colour: "var(--complete_failure)", points: pointsOf(series, "all_wrong") },
    ], series),
    lineChart(title("Turns and searches per rollout"), [
      { name: "turns", colour: "var(--complete_failure)", points: pointsOf(series, "turns") },
      { name: "searches", colour: "var(--complete_success)", points: pointsOf(series, "searches") },
    ], series),
  ];
}

function pointsOf(series, name) {
  return REPORT.steps.filter((entry) => entry.series === series && entry.step != null).map((entry) => [entry.step, entry[name]]);
}

const STEP_COLUMNS = [
  ["rollouts", (entry) => entry.n.toLocaleString("en")],
  ["outcome", (entry) => number(entry.outcome, 3)],
  ["failure", (entry) => percent(entry.complete_failure)],
  ["near miss", (entry) => percent(entry.near_miss)],
  ["success", (entry) => percent(entry.complete_success)],
  ["no retrieval", (entry) => percent(entry.success_without_retrieval)],
  ["all wrong", (entry) => percent(entry.all_wrong)],
  ["signal", (entry) => percent(entry.with_signal)],
  ["GRPO signal", (entry) => percent(entry.with_signal_grpo)],
  ["turns", (entry) => number(entry.turns)],
  ["searches", (entry) => number(entry.searches)],
];

function stepTable() {
  const head = make("tr", {}, ["step", ...STEP_COLUMNS.map(([name]) => name)].map((name) => make("th", { scope: "col" }, name)));
  const rows = REPORT.steps.map((entry) =>
    make("tr", {},
      make("td", {}, make("a", { href: groupsHash({ series: entry.series, step: entry.step == null ? "" : String(entry.step) }) }, stepName(entry))),
      STEP_COLUMNS.map(([, value]) => make("td", {}, value(entry)))));
  return make("div", { class: "scroll" }, make("table", { id: "steps" }, make("thead", {}, head), make("tbody", {}, rows)));
}
