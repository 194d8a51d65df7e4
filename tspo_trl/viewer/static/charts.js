// Line charts and stacked areas over training steps, as SVG. A click on a step shows its groups.

const CHART = { width: 560, height: 230, left: 46, right: 12, top: 10, bottom: 30 };

// `lines`: [{name, colour, dashed, points: [[step, value or null], ...]}]. The axis covers 0 to 1 and all values.
function lineChart(title, lines, series) {
  const shown = lines.filter((line) => line.points.some(([, value]) => value != null));
  const points = shown.flatMap((line) => line.points);
  const values = points.map(([, value]) => value);
  const scale = chartScale(points.map(([step]) => step), Math.floor(Math.min(0, ...values)), Math.ceil(Math.max(1, ...values)));
  const marks = shown.flatMap((line) => {
    const points = line.points.filter(([, value]) => value != null).map(([step, value]) => [scale.x(step), scale.y(value)]);
    const dots = points.length < 12 ? points.map(([x, y]) => makeSvg("circle", { cx: x, cy: y, r: 3.5, fill: line.colour })) : [];
    return [makeSvg("polyline", { class: line.dashed ? "line dashed" : "line", stroke: line.colour, points: points.map((p) => p.join(",")).join(" ") }), ...dots];
  });
  return chart(title, shown, scale, marks, series);
}

// `layers`: as `lines`, stacked from below. All have the same steps.
function stackedChart(title, layers, series) {
  const scale = chartScale(layers[0].points.map(([step]) => step), 0, 1);
  let below = layers[0].points.map(() => 0);
  const marks = layers.map((layer) => {
    const above = below.map((value, i) => value + (layer.points[i][1] || 0));
    const at = (values) => values.map((value, i) => `${scale.x(layer.points[i][0])},${scale.y(value)}`);
    const area = [...at(above), ...at(below).reverse()].join(" ");
    below = above;
    return makeSvg("polygon", { points: area, fill: layer.colour });
  });
  return chart(title, layers, scale, marks, series);
}

function chart(title, lines, scale, marks, series) {
  const { width, height, left, right, bottom } = CHART;
  const rules = [0, 0.25, 0.5, 0.75, 1].map((part) => scale.least + part * (scale.most - scale.least)).flatMap((value) => [
    makeSvg("line", { class: "grid-line", x1: left, x2: width - right, y1: scale.y(value), y2: scale.y(value) }),
    makeSvg("text", { x: left - 6, y: scale.y(value) + 4, "text-anchor": "end" }, String(value)),
  ]);
  const labels = ticks(scale.steps).map((step) =>
    makeSvg("text", { x: scale.x(step), y: height - bottom + 20, "text-anchor": "middle" }, String(step)));
  const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title },
    rules, marks, labels, stepTargets(scale, lines, series));
  const legend = lines.map((line) =>
    make("span", {}, make("span", { class: "swatch", "--color": line.colour }), line.name));
  return make("figure", {}, make("figcaption", {}, title), svg, make("div", { class: "legend" }, legend));
}

function chartScale(allSteps, least, most) {
  const steps = [...new Set(allSteps)].sort((a, b) => a - b);
  const { width, height, left, right, top, bottom } = CHART;
  const [first, last] = [steps[0], steps[steps.length - 1]];
  return {
    steps,
    least,
    most,
    x: (step) => (last === first ? (left + width - right) / 2 : left + ((step - first) / (last - first)) * (width - left - right)),
    y: (value) => top + ((most - value) / (most - least)) * (height - top - bottom),
  };
}

function ticks(steps) {
  const every = Math.ceil(steps.length / 8);
  return steps.filter((_, i) => i % every === 0);
}

// One invisible column per step: its title shows the values, a click opens the step's groups.
function stepTargets(scale, lines, series) {
  return scale.steps.map((step, i) => {
    const from = i ? (scale.x(scale.steps[i - 1]) + scale.x(step)) / 2 : CHART.left;
    const to = i + 1 < scale.steps.length ? (scale.x(step) + scale.x(scale.steps[i + 1])) / 2 : CHART.width - CHART.right;
    const values = lines.flatMap((line) =>
      line.points.filter(([at, value]) => at === step && value != null).map(([, value]) => `${line.name}: ${number(value, 3)}`));
    const target = makeSvg("rect", {
      class: "step-target", x: from, y: CHART.top, width: Math.max(1, to - from), height: CHART.height - CHART.top - CHART.bottom,
      onclick: () => go(groupsHash({ series, step: String(step) })),
    });
    target.append(makeSvg("title", {}, [`step ${step}`, ...values].join("\n")));
    return target;
  });
}
