// A line for each rate over the runs, as SVG; a run without a value is a gap.
const SIZE = { width: 720, height: 240, left: 62, right: 16, top: 14, bottom: 34 };
const MOST_NAMES = 8; // runs whose number stands below

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const y = (share) => SIZE.top + (1 - share) * (SIZE.height - SIZE.top - SIZE.bottom);
const xs = (count) => (place) => (count === 1 ? (SIZE.left + SIZE.width - SIZE.right) / 2 : SIZE.left + (place * (SIZE.width - SIZE.left - SIZE.right)) / (count - 1));

/** rates: name of a rate -> what it is called. runs: facts and numbers of each, the first first. */
export function plot(runs, rates) {
  const x = xs(runs.length);
  const step = Math.ceil(runs.length / MOST_NAMES);
  const parts = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    svg("line", { x1: SIZE.left, x2: SIZE.width - SIZE.right, y1: y(share), y2: y(share) }),
    svg("text", { x: SIZE.left - 8, y: y(share) + 4, "text-anchor": "end" }, String(share)),
  ]);
  runs.forEach((run, place) => {
    if ((runs.length - 1 - place) % step === 0) parts.push(svg("text", { x: x(place), y: SIZE.height - SIZE.bottom + 20, "text-anchor": "middle" }, String(run.facts.number)));
  });
  for (const name of Object.keys(rates)) parts.push(...line(runs.map((run) => run.numbers.rates[name].value), name, x));
  return svg("svg", { class: "plot", viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img", "aria-label": `${Object.values(rates).join(" and ")} by run; the table below has the numbers` }, ...parts);
}

function line(values, name, x) {
  let path = "";
  let joined = false;
  values.forEach((value, place) => {
    if (value !== null) path += `${joined ? "L" : "M"}${x(place).toFixed(1)} ${y(value).toFixed(1)} `;
    joined = value !== null;
  });
  const points = values.flatMap((value, place) => (value === null ? [] : [svg("circle", { class: name, cx: x(place), cy: y(value), r: 4 })]));
  return [svg("path", { class: `rate ${name}`, d: path.trim() || "M0 0" }), ...points];
}
