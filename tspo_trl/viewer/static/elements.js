// Elements of the page. Text of a trajectory is added as text, never as HTML.

function make(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function makeSvg(name, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  for (const child of children.flat(Infinity)) {
    if (child != null && child !== false) element.append(child);
  }
  return element;
}

// Mark the gold answers of a text: every second piece is one.
function markedText(pieces) {
  return pieces.map((piece, i) => (i % 2 ? make("mark", {}, piece) : piece));
}

function number(value, digits = 2) {
  if (value == null) return "–";
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? "−" : "") + text;
}

function signed(value) {
  const text = number(value);
  return value > 0 && Number(text) !== 0 ? "+" + text : text;
}

function percent(value) {
  return value == null ? "–" : (100 * value).toFixed(1) + "%";
}

function counted(count, noun, plural = noun + "s") {
  return `${count.toLocaleString("en")} ${count === 1 ? noun : plural}`;
}

function kindName(kind) {
  return kind ? REPORT.labels.kinds[kind] : "unscorable";
}

function kindTag(rollout) {
  return make("span", { class: `tag kind ${rollout.kind || ""}` }, kindName(rollout.kind));
}

// The advantage of a turn as a colour: green above 0, orange below.
function creditColours(advantage) {
  if (!advantage) return {};
  const strength = Math.min(1, Math.abs(advantage) / 2);
  const colour = advantage > 0 ? "var(--positive)" : "var(--negative)";
  return {
    "--credit": `color-mix(in srgb, ${colour} ${(8 + 34 * strength).toFixed(0)}%, var(--page))`,
    "--credit-edge": colour,
  };
}

function stepName(entry) {
  return entry.step == null ? entry.series : `${entry.series}, step ${entry.step}`;
}
