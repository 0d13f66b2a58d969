// What is shown, as one object, and the address that holds it: whoever opens the address sees the same.

export const PAGE = 20; // results that are asked for at once
const TEXTS = ["query", "mode", "where", "sort", "price_from", "price_to", "rating_from"];
const FACET = "f."; // begins the parameter of a facet: f.brand=brand = 'HP'
const BOUNDS = { price_from: ["price", ">="], price_to: ["price", "<="], rating_from: ["rating", ">="] };

/**
 * choices: facet -> conditions of its chosen values. ignore: id -> text of words that were read and are to be plain.
 * typed: the words are searched for as they were typed. shown: how many results.
 */
export const emptyState = () => ({ ...Object.fromEntries(TEXTS.map((name) => [name, ""])), choices: {}, ignore: {}, typed: false, shown: PAGE });

export function stateOf(address) {
  const state = emptyState();
  for (const [name, value] of new URLSearchParams(address)) {
    if (TEXTS.includes(name)) state[name] = value;
    else if (name.startsWith(FACET)) (state.choices[name.slice(FACET.length)] ??= []).push(value);
    else if (name === "ignore") state.ignore[value.split(" ", 1)[0]] = value.slice(value.indexOf(" ") + 1);
    else if (name === "typed") state.typed = value === "1";
    else if (name === "shown") state.shown = Math.max(PAGE, Math.min(Number.parseInt(value, 10) || PAGE, 1000));
  }
  for (const name of Object.keys(BOUNDS)) if (!Number.isFinite(Number(state[name]))) state[name] = "";
  return state;
}

export function addressOf(state) {
  const pairs = TEXTS.filter((name) => state[name].trim()).map((name) => [name, state[name].trim()]);
  for (const [facet, conditions] of Object.entries(state.choices)) pairs.push(...conditions.map((one) => [FACET + facet, one]));
  pairs.push(...Object.entries(state.ignore).map(([id, text]) => ["ignore", `${id} ${text}`]));
  if (state.typed) pairs.push(["typed", "1"]);
  if (state.shown > PAGE) pairs.push(["shown", state.shown]);
  return pairs.length ? `?${new URLSearchParams(pairs)}` : location.pathname;
}

/** All filters as one condition, "" for none: one of the chosen values of a facet, and that for every facet. */
export function whereOf(state, without = null) {
  const parts = [];
  for (const [facet, conditions] of Object.entries(state.choices)) {
    if (facet !== without && conditions.length) parts.push(`(${conditions.map((one) => (conditions.length > 1 ? `(${one})` : one)).join(" OR ")})`);
  }
  for (const [name, [column, operator]] of Object.entries(BOUNDS)) {
    if (state[name] && column !== without) parts.push(`${column} ${operator} ${Number(state[name])}`);
  }
  if (state.where.trim()) parts.push(`(${state.where.trim()})`);
  return parts.join(" AND ");
}

/** The state with a value of a facet chosen, or no longer. */
export function toggled(state, facet, condition) {
  const before = state.choices[facet] ?? [];
  const after = before.includes(condition) ? before.filter((one) => one !== condition) : [...before, condition];
  const { [facet]: _, ...others } = state.choices;
  return { ...state, choices: after.length ? { ...others, [facet]: after } : others };
}

export const withoutFilters = (state) => ({ ...state, choices: {}, where: "", price_from: "", price_to: "", rating_from: "" });

/** Facets of which something is chosen; those are counted again without their own filter, so that more can be chosen. */
export function narrowed(state) {
  const bounded = Object.entries(BOUNDS).filter(([name]) => state[name]).map(([, [column]]) => column);
  return [...new Set([...Object.keys(state.choices), ...bounded])];
}

/** Every filter by itself: its facet ("" = none), condition, and the state without it. */
export function filtersOf(state) {
  const chosen = Object.entries(state.choices).flatMap(([facet, conditions]) =>
    conditions.map((condition) => ({ facet, condition, rest: toggled(state, facet, condition) })));
  const bounds = Object.entries(BOUNDS).filter(([name]) => state[name]).map(([name, [facet, operator]]) =>
    ({ facet, condition: `${facet} ${operator} ${Number(state[name])}`, rest: { ...state, [name]: "" } }));
  const own = state.where.trim() ? [{ facet: "", condition: state.where.trim(), rest: { ...state, where: "" } }] : [];
  return [...chosen, ...bounds, ...own];
}
