// The overview: learning curve, kinds of trajectory and signal over the steps of each series.

function showOverview() {
  const trained = REPORT.steps.filter((entry) => entry.series === mainSeries() && entry.step != null);
  const series = [...new Set(REPORT.steps.map((entry) => entry.series))];
  return [
    make("h1", {}, document.title),
    make("p", { class: "quiet" }, overviewLine(series)),
    cards(),
    trained.length > 1 && make("div", { class: "charts" }, overviewCharts(trained)),
    make("h2", {}, "By step"),
    stepTable(),
  ];
}

// The series that the charts are of: training where there is one.
function mainSeries() {
  return REPORT.steps[0].series;
}

function overviewLine(series) {
  const groups = REPORT.steps.reduce((sum, entry) => sum + entry.groups, 0);
  const kept = REPORT.kept === REPORT.n ? "" :
    ` The pages of groups hold ${counted(REPORT.kept, "trajectory").replace(/ys$/, "ies")} of them, whole steps spread evenly.`;
  return `${counted(REPORT.n, "trajectory").replace(/ys$/, "ies")} in ${counted(groups, "group")} of ${series.join(", ")}.${kept}`;
}

function cards() {
  const entries = REPORT.steps.filter((entry) => entry.series === mainSeries());
  const [first, last] = [entries[0], entries[entries.length - 1]];
  const change = (name, label) => {
    const value = first === last ? percent(last[name]) : `${percent(first[name])} → ${percent(last[name])}`;
    return make("div", { class: "card" }, make("div", { class: "value" }, value), make("div", { class: "label" }, label));
  };
  return [
    make("p", { class: "quiet" }, first === last ? stepName(last) : `${first.series}, from step ${first.step} to step ${last.step}`),
    make("div", { class: "cards" },
      change("outcome", "mean outcome reward"),
      change("near_miss", "near misses"),
      change("all_wrong", "groups that are all wrong"),
      change("with_signal", "groups with signal"),
      change("with_signal_grpo", "with signal to GRPO")),
  ];
}

function overviewCharts(trained) {
  const points = (name) => trained.map((entry) => [entry.step, entry[name]]);
  const evaluations = [...new Set(REPORT.steps.map((entry) => entry.series))]
    .filter((series) => series !== mainSeries())
    .map((series, i) => ({
      name: series,
      colour: ["var(--near_miss)", "var(--success_without_retrieval)", "var(--positive)", "var(--negative)"][i % 4],
      points: REPORT.steps.filter((entry) => entry.series === series && entry.step != null).map((entry) => [entry.step, entry.outcome]),
    }));
  const kinds = Object.entries(KINDS).reverse().map(([kind, name]) => ({ name, colour: `var(--${kind})`, points: points(kind) }));
  return [
    lineChart("Mean outcome reward", [{ name: mainSeries(), colour: "var(--complete_success)", points: points("outcome") }, ...evaluations], mainSeries()),
    stackedChart("Kinds of trajectory", kinds, mainSeries()),
    lineChart("Share of groups", [
      { name: "with signal", colour: "var(--positive)", points: points("with_signal") },
      { name: "with signal to GRPO", colour: "var(--negative)", dashed: true, points: points("with_signal_grpo") },
      { name: "all wrong", colour: "var(--complete_failure)", points: points("all_wrong") },
    ], mainSeries()),
  ];
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
