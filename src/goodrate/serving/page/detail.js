// What is behind "Why": the judge's reason, label probabilities, retrieval channels, attributes, description.
import { fetchJson, make, percent } from "./dom.js";
import { clip } from "./clip.js";
import { fillEntities } from "./override.js";
import { fillOverrule } from "./overrule.js";

// Colours run from worst to best whatever the number of labels: with 3 labels, 0, 2 (rounded) and 3.
export const shade = (index, count) => `l${Math.round((3 * index) / (count - 1))}`;

export function fillDetail(detail, answer, result) {
  const { verdict, item } = result;
  if (verdict) {
    const reason = make("div", { className: "reason" });
    detail.append(reason);
    loadReason(reason, answer.correction?.used ? answer.correction.text : answer.query, result.item_id);
    if (verdict.tier) detail.append(probabilityTable(answer.labels, verdict.probabilities));
  }
  if (item.clip) detail.append(section("Clip", clip(result)));
  const [entities, people] = [make("div", { className: "entities" }), make("div", {})];
  detail.append(entities, people);
  if (verdict) fillEntities(entities, answer, result);
  fillOverrule(people, answer, result);
  if (typeof result.utility === "number") detail.append(section("Ranker", make("p", {}, `Predicted chance of a click once it is seen: ${(100 * result.utility).toFixed(1)}%.`)));
  if (!answer.query_id) detail.append(channelTable(result.retrieval)); // an interleaved answer tells nobody who found what
  const attributes = Object.entries(item.attributes ?? {});
  if (attributes.length) detail.append(section("Attributes", definitions(attributes.map(([name, value]) => [name, [value].flat().join(", ")]))));
  const filled = Object.entries(item.inferred_attributes ?? {});
  if (filled.length) detail.append(section("Inferred, not stated by the shop", definitions(filled.map(([name, one]) => [name, `${one.value} (${percent(one.confidence)} sure, ${one.source})`]))));
  if (item.description) detail.append(section("Description", make("p", { className: "description" }, item.description)));
}

const section = (title, ...content) => make("div", {}, make("h4", {}, title), ...content);
const definitions = (pairs) => make("dl", { className: "steps" }, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));

async function loadReason(place, query, itemId) {
  place.replaceChildren(make("h4", {}, "Reason"), make("p", { role: "status" }, "Asking the judge…"));
  try {
    const answer = await fetchJson("explain", { query, item_id: itemId });
    place.replaceChildren(make("h4", {}, "Reason"), ...reasonOf(answer));
  } catch (error) {
    const again = make("button", { type: "button", className: "plain", onclick: () => loadReason(place, query, itemId) }, "Try again");
    place.replaceChildren(make("h4", {}, "Reason"), make("p", { className: "warning" }, error.message, again));
  }
}

function reasonOf(answer) {
  const { verdict, steps } = answer;
  const shown = steps.length ? definitions(steps.map((step) => [step.title, step.text])) : make("p", {}, "The judge gave no reason that can be read.");
  const doubt = doubtOf(verdict);
  return doubt ? [shown, make("p", { className: "warning" }, doubt)] : [shown];
}

function doubtOf(verdict) {
  if (verdict.inconsistent) return "These steps lead to another label than the one given. Trust neither without a look.";
  if (verdict.status !== "ok") return `The judge failed: ${verdict.status}.`;
  return verdict.reason_status && verdict.reason_status !== "ok" ? `The reason is not whole: ${verdict.reason_status}.` : null;
}

function probabilityTable(labels, probabilities) {
  const rows = labels.map((label, index) => make("tr", {}, make("td", {}, make("span", { className: `swatch ${shade(index, labels.length)}` }), label), make("td", { className: "n" }, `${(100 * probabilities[label]).toFixed(1)}%`)));
  return section("Label probabilities", make("table", {}, make("tbody", {}, ...rows.reverse())));
}

function channelTable(retrieval) {
  if (retrieval.rank === null) return section("Retrieval", make("p", {}, "Not found by the search: a rule of the shop put it here."));
  const heads = ["channel", "rank", "score", "share"].map((name, index) => make("th", { className: index ? "n" : "", scope: "col" }, name));
  const rows = Object.entries(retrieval.channels).map(([name, part]) =>
    make("tr", {}, make("td", {}, name), ...[String(part.rank), part.score.toFixed(3), percent(part.share)].map((text) => make("td", { className: "n" }, text))));
  return section(`Retrieval: place ${retrieval.rank}`, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)));
}
