// One result: picture, facts, variants, what the judge says, and the details behind a button.
import { make, money, percent } from "./dom.js";
import { fillDetail, shade } from "./detail.js";
import { factsOf, picture } from "./items.js";
import { overruleMark } from "./overrule.js";
import { logClick } from "./visitor.js";

/** A result as a list item. place: its number, from 1. pictures: whether results of this answer have any. */
export function resultCard(answer, result, place, pictures) {
  const { item, verdict } = result;
  const detail = make("div", { className: "detail", id: `detail-${place}`, hidden: true });
  const why = make("button", { className: "why", type: "button", "aria-expanded": "false", "aria-controls": detail.id }, verdict ? "Why" : "Details");
  why.onclick = () => toggle(why, detail, answer, result);
  const title = make("h3", {}, item.title || result.item_id);
  const body = make("div", { className: "body" }, title, make("div", { className: "facts" }, ...factsOf(item)), marks(result), why, variantsOf(result));
  const card = make("li", { className: "result", tabIndex: -1 }, make("span", { className: "place" }, String(place)), pictures ? picture({ ...item, id: result.item_id }) : null, body, side(answer, verdict), detail);
  if (pictures) card.classList.add("pictured");
  if (answer.labels.length) card.classList.add("judged");
  return card;
}

/** What moved the result: exclusions of the query and rules of the shop. */
function marks(result) {
  const rules = (result.rules ?? []).map((name) => make("span", { className: "rule", title: `The shop's rule “${name}” moved this result` }, `Rule: ${name}`));
  if (result.excluded) rules.unshift(make("span", { className: "excluded" }, "has what you asked to be without"));
  return rules.length ? make("div", { className: "marks" }, ...rules) : null;
}

/** The other variants of the result, folded; each with what it differs in. */
function variantsOf(result) {
  const others = result.variants ?? [];
  if (!others.length) return null;
  const count = result.variant_count ?? others.length;
  const rows = others.map((one) => {
    const values = Object.values(one.differing ?? {}).flat().map(String);
    const differing = values.filter((value) => !one.title.toLowerCase().includes(value.toLowerCase())).join(", ");
    const price = one.price === null || one.price === undefined ? null : make("span", { className: "price" }, money(one.price, one.currency || result.item.currency));
    return make("li", {}, make("span", {}, one.title || one.id, differing ? make("span", { className: "differing" }, ` ${differing}`) : null), price);
  });
  if (count > others.length) rows.push(make("li", { className: "differing" }, `and ${(count - others.length).toLocaleString()} more`));
  return make("details", { className: "variants" }, make("summary", {}, `${count.toLocaleString()} more variant${count === 1 ? "" : "s"}`), make("ul", {}, ...rows));
}

/** The tier, the bar of label probabilities and the likeliest label. */
function side(answer, verdict) {
  if (!answer.labels.length) return null;
  const tier = verdict?.tier ?? null;
  const chip = make("span", { className: `chip ${tier ?? ""}` }, tier ?? (verdict ? "No verdict" : "Not judged"));
  if (!tier) return make("div", { className: "side" }, chip);
  const label = make("div", { className: "label" }, `${verdict.label} ${percent(verdict.probabilities[verdict.label])}`);
  return make("div", { className: "side" }, chip, oddsBar(answer.labels, verdict.probabilities), label, overruleMark(verdict));
}

function oddsBar(labels, probabilities) {
  const text = labels.map((label) => `${label} ${percent(probabilities[label])}`).join(", ");
  const bar = make("div", { className: "odds", role: "img", "aria-label": text, title: text });
  labels.forEach((label, index) => {
    if (probabilities[label] < 0.005) return;
    const part = make("span", { className: shade(index, labels.length) });
    part.style.flexGrow = String(probabilities[label]);
    bar.prepend(part);
  });
  return bar;
}

function toggle(button, detail, answer, result) {
  const open = button.getAttribute("aria-expanded") !== "true";
  button.setAttribute("aria-expanded", String(open));
  detail.hidden = !open;
  if (open && !detail.childElementCount) {
    fillDetail(detail, answer, result);
    logClick(answer, result);
  }
}
