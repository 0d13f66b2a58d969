// The filters at the side, or on a sheet where the window is narrow: facets with counts, bounds of price and rating.
import { byId, make, money } from "./dom.js";

const FEW = 7; // values of a facet that show at once
const QUOTED = /^[^']+ (?:=|I?LIKE) '((?:[^']|'')*)'$/;
const BETWEEN = /^(.+) >= (-?[\d.]+) AND \1 <=? (-?[\d.]+)$/;
const FROM_TO = /^.+ BETWEEN (-?[\d.]+) AND (-?[\d.]+)$/;
const BOUND = /^(.+) (>=?|<=?) (-?[\d.]+)$/;
const unfolded = new Set(); // facets that show all their values
const folded = new Set();
let order = { query: "", names: [] }; // facets keep their places while one query is narrowed

const titleCase = (name) => name.replace(/^attributes\.|"/g, "").replace(/_/g, " ").replace(/^./, (first) => first.toUpperCase());
const amount = (facet, value, currency) => (facet === "price" ? money(value, currency, true) : value.toLocaleString(undefined, { maximumSignificantDigits: 6 }));

/** "up to 50", "50 to 100", "from 100": a range, where null is no bound. */
function rangeText(facet, from, to, currency) {
  const [low, high] = [from, to].map((value) => (value === null || value === undefined ? null : amount(facet, value, currency)));
  if (low !== null && high !== null) return `${low} to ${high}`;
  return low === null ? `up to ${high}` : `from ${low}`;
}

function valueText(facet, value, currency) {
  if (facet.kind !== "ranges") return String(value.value);
  const text = rangeText(facet.name, value.from, value.to, currency);
  return facet.unit ? `${text} ${facet.unit}` : text;
}

/** What a chosen condition says, also for one that no facet of the answer has. */
export function conditionText(facets, name, condition, currency) {
  const facet = facets.find((one) => one.name === name);
  const value = facet?.values.find((one) => one.where === condition);
  if (value) return value.path ?? valueText(facet, value, currency);
  const quoted = QUOTED.exec(condition);
  if (quoted) return quoted[1].replaceAll("''", "'");
  const [between, fromTo, bound] = [BETWEEN, FROM_TO, BOUND].map((pattern) => pattern.exec(condition));
  if (between) return rangeText(name, Number(between[2]), Number(between[3]), currency);
  if (fromTo) return rangeText(name, Number(fromTo[1]), Number(fromTo[2]), currency);
  if (bound) return bound[2].startsWith(">") ? rangeText(name, Number(bound[3]), null, currency) : rangeText(name, null, Number(bound[3]), currency);
  return condition;
}

export const facetLabel = (facets, name) => facets.find((one) => one.name === name)?.label || titleCase(name || "Condition");

/** The facets of an answer, with those of which something is chosen and that the answer leaves out. */
function complete(facets, state) {
  const missing = Object.keys(state.choices).filter((name) => !facets.some((one) => one.name === name));
  const all = [...facets, ...missing.map((name) => ({ name, kind: "values", values: [] }))].map((facet) => {
    const lost = (state.choices[facet.name] ?? []).filter((condition) => !facet.values.some((one) => one.where === condition));
    return { ...facet, lost };
  });
  for (const name of ["price", "rating"]) if (!all.some((one) => one.name === name)) all.push({ name, kind: "ranges", values: [], lost: [] });
  return inPlace(all.filter((facet) => facet.values.length || facet.lost.length || ["price", "rating"].includes(facet.name)), state.query);
}

function inPlace(facets, query) {
  const names = order.query === query ? order.names : [];
  order = { query, names: [...names, ...facets.map((one) => one.name).filter((name) => !names.includes(name))] };
  return facets.sort((one, other) => order.names.indexOf(one.name) - order.names.indexOf(other.name));
}

/** Draw the panel anew, with the focus, and what is folded, as it was. actions: choose(facet, condition), bound(name, value). */
export function showFacets(facets, state, currency, actions) {
  const place = byId("facets");
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const known = complete(facets, state);
  place.replaceChildren(...known.map((facet) => group(facet, known, state, currency, actions)));
  if (focused) focusOn(focused);
}

const focusOn = (key) => [...byId("facets").querySelectorAll("[data-key]")].find((one) => one.dataset.key === key)?.focus();

function group(facet, facets, state, currency, actions) {
  const label = facetLabel([facet], facet.name);
  const chosen = state.choices[facet.name] ?? [];
  const rows = facet.values.map((value) => choice(facet, valueText(facet, value, currency), value, chosen.includes(value.where), actions));
  rows.push(...facet.lost.map((where) => choice(facet, conditionText(facets, facet.name, where, currency), { where }, true, actions)));
  const all = unfolded.has(facet.name) || rows.length <= FEW + 1;
  const visible = rows.filter((row, index) => all || index < FEW || row.querySelector("input").checked);
  const parts = [make("ul", { className: "choices" }, ...visible)];
  const hidden = rows.filter((row) => !visible.includes(row));
  if (hidden.length) parts.push(unfold(facet.name, hidden, actions));
  else if (facet.others) parts.push(make("p", { className: "others" }, `and ${facet.others.toLocaleString()} more; narrow the search to see them`));
  if (facet.name === "price") parts.push(bounds(state, actions));
  if (facet.name === "rating" && !facet.values.length) parts.splice(0, 1, ratings(state, actions));
  const details = make("details", { className: "group", open: !folded.has(facet.name) }, make("summary", {}, label), make("div", { role: "group", "aria-label": label }, ...parts));
  details.addEventListener("toggle", () => (details.open ? folded.delete(facet.name) : folded.add(facet.name)));
  return details;
}

function choice(facet, text, value, checked, actions) {
  const box = make("input", { type: "checkbox", checked, onchange: () => actions.choose(facet.name, value.where) });
  box.dataset.key = `${facet.name} ${value.where}`;
  const count = value.count === undefined ? null : make("span", { className: "count" }, value.count.toLocaleString());
  const label = make("label", { className: "choice" }, box, make("span", { className: "name" }, text), count);
  label.style.paddingInlineStart = `${0.9 * Math.min(value.depth ?? 0, 6)}rem`;
  return make("li", {}, label);
}

/** A button that shows the hidden values and puts the focus on the first of them. */
function unfold(name, hidden, actions) {
  const first = hidden[0].querySelector("input").dataset.key;
  const button = make("button", { type: "button", className: "plain" }, `Show ${hidden.length} more`);
  button.onclick = () => { unfolded.add(name); actions.redraw(); focusOn(first); };
  return button;
}

function bounds(state, actions) {
  const field = (name, text) => {
    const input = make("input", { type: "number", min: "0", step: "any", inputMode: "decimal", name, value: state[name], "aria-label": `Price ${text}`, placeholder: text });
    input.dataset.key = name;
    input.onchange = () => actions.bound(name, input.value);
    return input;
  };
  return make("div", { className: "bounds" }, field("price_from", "from"), make("span", { "aria-hidden": "true" }, "–"), field("price_to", "to"));
}

function ratings(state, actions) {
  const names = { "": "any", 3: "3 and up", 4: "4 and up", 4.5: "4.5 and up" };
  const select = make("select", { name: "rating_from", "aria-label": "Rating" }, ...["", "3", "4", "4.5"].map((value) => make("option", { value, selected: value === state.rating_from }, names[value])));
  select.dataset.key = "rating_from";
  select.onchange = () => actions.bound("rating_from", select.value);
  return select;
}

const wide = matchMedia("(min-width: 60rem)");

/** Put the panel at the side of a wide window, or on the sheet that the button opens in a narrow one. */
export function attachSheet() {
  const [side, sheet, panel] = [byId("side"), byId("sheet"), byId("filters")];
  const settle = () => {
    if (wide.matches) sheet.close();
    (wide.matches ? side : sheet.querySelector(".sheet-body")).append(panel);
  };
  wide.addEventListener("change", settle);
  settle();
  byId("open-filters").onclick = () => sheet.showModal();
  byId("close-filters").onclick = () => sheet.close();
  sheet.addEventListener("click", (event) => { if (event.target === sheet) sheet.close(); });
}
