// What the search is made of, each part with a click to take it away: words that were read as conditions, and filters.
import { byId, make } from "./dom.js";
import { conditionText, facetLabel } from "./facets.js";
import { filtersOf, withoutFilters } from "./state.js";

const mark = (sign) => make("span", { "aria-hidden": "true" }, ` ${sign}`);

/** A filter as a person says it: "Brand: HP". */
export function filterText(filter, facets, currency) {
  return `${facetLabel(facets, filter.facet)}: ${conditionText(facets, filter.facet, filter.condition, currency)}`;
}

/** go(state): search for that. The focus stays among the chips when the one that had it is gone. */
export function showChips(state, answer, currency, go) {
  const place = byId("chips");
  const at = [...place.querySelectorAll("button")].indexOf(document.activeElement);
  const facets = answer?.facets ?? [];
  const filters = filtersOf(state).map((filter) => filterChip(filterText(filter, facets, currency), () => go(filter.rest)));
  const clear = filters.length ? make("button", { type: "button", className: "plain" }, "Clear all") : null;
  if (clear) clear.onclick = () => go(withoutFilters(state));
  const read = (answer?.spans ?? []).map((span) => wordsChip(span.text, true, () => go({ ...state, ignore: { ...state.ignore, [span.id]: span.text } })));
  const plain = Object.entries(state.ignore).map(([id, text]) => {
    const { [id]: _, ...ignore } = state.ignore;
    return wordsChip(text, false, () => go({ ...state, ignore }));
  });
  const line = answer?.correction ? correctionLine(answer.correction, state, go) : null;
  place.replaceChildren(...[line, ...read, ...plain, ...filters, clear].filter(Boolean));
  if (at < 0) return;
  const buttons = [...place.querySelectorAll("button")];
  (buttons[Math.min(at, buttons.length - 1)] ?? byId("results")).focus();
}

function filterChip(text, action) {
  return make("button", { type: "button", className: "part filter", "aria-label": `${text}: remove this filter`, onclick: action }, text, mark("×"));
}

/** A condition that was read in the query; a click takes it as plain words, or reads it as a condition again. */
function wordsChip(text, read, action) {
  const what = read ? `${text}: read as a condition. Take it as plain words` : `${text}: plain words. Read it as a condition`;
  return make("button", { type: "button", className: read ? "part" : "part off", title: what, "aria-label": what, onclick: action }, text, mark(read ? "×" : "+"));
}

/** "Results for laptop", or "Did you mean laptop?", with the other query behind a button. */
export function correctionLine(correction, state, go) {
  const again = (text, next) => make("button", { type: "button", className: "plain link", onclick: () => go(next) }, text);
  if (correction.used) {
    return make("p", { className: "meant" }, "Results for ", make("b", {}, correction.text), ". ", again(`Search for “${state.query}” instead`, { ...state, typed: true }));
  }
  return make("p", { className: "meant" }, "Did you mean ", again(correction.text, { ...state, query: correction.text, ignore: {}, typed: false }), "?");
}
