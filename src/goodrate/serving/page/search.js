// What the server is asked for one state of the page.
import { fetchJson } from "./dom.js";
import { visitor } from "./visitor.js";
import { narrowed, PAGE, whereOf } from "./state.js";

const MOST = 200; // results that the server gives at once

function parametersOf(state, where, others) {
  const pairs = [["query", state.query], ...Object.entries(others)];
  if (where) pairs.push(["where", where]);
  if (state.mode) pairs.push(["mode", state.mode]);
  pairs.push(...Object.keys(state.ignore).map((id) => ["ignore", id]));
  if (state.typed) pairs.push(["ignore", "spelling"]);
  return pairs;
}

/**
 * The answer for all results that are shown, and facets. A facet of which something is chosen is counted as if it were
 * not, so that its other values can be chosen too.
 */
export async function findAll(state, signal) {
  const own = narrowed(state).map((facet) => countsOf(state, facet, signal));
  const answer = await find(state, 0, Math.min(state.shown, MOST), signal, ["auto"]);
  while (answer.results.length < state.shown && answer.more) {
    const next = await findMore(state, answer, Math.min(state.shown - answer.results.length, MOST), signal);
    Object.assign(answer, next);
  }
  const counted = (await Promise.all(own)).filter(Boolean);
  const facets = (answer.facets ?? []).map((facet) => counted.find((one) => one.name === facet.name) ?? facet);
  facets.push(...counted.filter((one) => !facets.some((facet) => facet.name === one.name)));
  return { ...answer, facets };
}

async function find(state, offset, k, signal, facets = []) {
  const others = { k, client_id: visitor(), ...(offset ? { offset } : {}), ...(state.sort ? { sort: state.sort } : {}) };
  const pairs = [...parametersOf(state, whereOf(state), others), ...facets.map((name) => ["facets", name])];
  const answer = await fetchJson("search", pairs, signal);
  if (answer.query_id) answer.results.forEach((result) => { result.query_id = answer.query_id; });
  return { ...answer, more: answer.more ?? answer.results.length === k };
}

/** The answer with the next results behind those that it has; one that is there already is not shown again. */
export async function findMore(state, answer, k = PAGE, signal = undefined) {
  const next = await find(state, answer.results.length + (answer.repeated ?? 0), k, signal);
  const known = new Set(answer.results.map((result) => result.item_id));
  const fresh = next.results.filter((result) => !known.has(result.item_id));
  const repeated = (answer.repeated ?? 0) + next.results.length - fresh.length;
  return { ...answer, results: [...answer.results, ...fresh], repeated, more: next.more };
}

/** The counts of one facet without its own filter; null where they cannot be had, which is no reason to show nothing. */
async function countsOf(state, facet, signal) {
  const pairs = [...parametersOf(state, whereOf(state, facet), { k: 1, depth: 0 }), ["facets", facet]];
  const answer = await fetchJson("search", pairs, signal).catch(() => null);
  return answer?.facets?.find((one) => one.name === facet) ?? null;
}
