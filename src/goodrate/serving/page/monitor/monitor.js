// The page of the monitored search: the rates over all runs, and what a run found and what had changed.
import { byId, fetchJson, make, percent } from "../dom.js";
import { showPages } from "../pages.js";
import { plot } from "./plot.js";

const RATES = { query_goodrate: "Query Goodrate", item_goodrate: "Item Goodrate" };
const MORE_RATES = { ...RATES, confidence: "Judge's confidence", judged_share: "Results with a label" };
const MOST = 50; // queries and changes that are listed

const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
const signed = (value) => (value === null || value === undefined ? "–" : `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(3)}`);
const notice = (title, text, kind = "") => make("div", { className: `notice ${kind}` }, make("h2", {}, title), make("p", {}, text));

async function load() {
  showPages("../", "monitor/");
  try {
    const { runs, out } = await fetchJson("../monitoring", {});
    if (!runs.length) return byId("history").replaceChildren(notice("No run yet", `Each run of “goodrate monitor … --out ${out}” is shown here.`));
    showHistory(runs);
    const asked = Number(location.hash.slice(1));
    open(runs.some((run) => run.facts.number === asked) ? asked : runs.at(-1).facts.number, false);
  } catch (error) {
    byId("history").replaceChildren(notice("That did not work", error.message, "error"));
  }
}

function showHistory(runs) {
  const legend = make("ul", { className: "legend" }, ...Object.entries(RATES).map(([name, words]) => make("li", { className: name }, words)));
  const rows = [...runs].reverse().map((run) => {
    const { facts, numbers } = run;
    const choose = make("button", { type: "button", className: "plain link", onclick: () => open(facts.number) }, `Run ${facts.number}`);
    const values = [choose, facts.time.slice(0, 16).replace("T", " "), ...Object.keys(RATES).map((name) => number(numbers.rates[name].value)), String(numbers.counts.queries), percent(1 - (numbers.rates.judged_share.value ?? 1)), facts.grader ?? facts.judge ?? "–"];
    const row = make("tr", { id: `run-${facts.number}` });
    row.append(...values.map((value, place) => make("td", { "data-head": HEADS[place], className: place > 1 && place < 6 ? "n" : "" }, value)));
    return row;
  });
  byId("history").replaceChildren(make("div", { className: "card" }, plot(runs, RATES), legend), table(HEADS, rows, (place) => place > 1 && place < 6));
}

const HEADS = ["Run", "Time (UTC)", "Query Goodrate", "Item Goodrate", "Queries", "Unjudged", "Graded by"];

function table(heads, rows, numeric) {
  const head = make("tr", {}, ...heads.map((text, place) => make("th", { scope: "col", className: numeric(place) ? "n" : "" }, text)));
  return make("table", { className: "list stacked" }, make("thead", {}, head), make("tbody", {}, ...rows));
}

/** Show a run. asked: whether somebody clicked, so that the place moves to it. */
async function open(wanted, asked = true) {
  const place = byId("run").querySelector("div");
  try {
    const run = await fetchJson(`../monitoring/${wanted}`, {});
    byId("run-title").textContent = `Run ${wanted}: ${run.facts.time.slice(0, 16).replace("T", " ")}`;
    place.replaceChildren(...about(run));
    byId("run").hidden = false;
    for (const row of byId("history").querySelectorAll("tr[aria-current]")) row.removeAttribute("aria-current");
    byId(`run-${wanted}`)?.setAttribute("aria-current", "true");
    if (asked) { history.replaceState(null, "", `#${wanted}`); byId("run-title").focus(); }
  } catch (error) {
    place.replaceChildren(notice("That did not work", error.message, "error"));
    byId("run").hidden = false;
  }
}

function about({ facts, numbers, queries, changes }) {
  const listed = (counts, shown) => Object.entries(counts).map(([name, value]) => `${shown(value)} ${name}`).join(", ");
  const lines = [
    `Pages: ${listed(numbers.pages, String)}. Results by the judge's tier: ${listed(numbers.tiers, (share) => (share === null ? "–" : percent(share)))}.`,
    `${numbers.counts.results.toLocaleString()} results, ${numbers.counts.judged.toLocaleString()} with a label, ${numbers.counts.by_people.toLocaleString()} of them by people; the judge failed on ${numbers.counts.failed.toLocaleString()}. Ranked by ${facts.judge ?? "the index alone"}.`,
  ].map((text) => make("p", {}, text));
  return [...lines, ...(changes ? changed(changes) : []), make("h3", {}, "Queries, the worst page first"), pages(queries)];
}

function changed(changes) {
  const rates = Object.entries(MORE_RATES).map(([name, words]) => {
    const { difference, p } = changes.rates[name];
    const bounds = difference.low === null ? "" : ` (${signed(difference.low)} to ${signed(difference.high)})`;
    return make("li", {}, `${words} ${signed(difference.value)}${bounds}${p === null ? "" : `, p ${p.toPrecision(2)}`}`);
  });
  const rows = changes.changed_queries.slice(0, MOST).map((one) => {
    const link = make("a", { href: `../?${new URLSearchParams({ query: one.query })}` }, one.query);
    const delta = one.before === null || one.after === null ? "–" : signed(one.after - one.before);
    const cells = [link, `${number(one.before)} → ${number(one.after)}`, delta, `${one.new.length} new, ${one.gone.length} gone`];
    return make("tr", {}, ...cells.map((value, place) => make("td", { "data-head": CHANGE_HEADS[place], className: place === 1 || place === 2 ? "n" : "" }, value)));
  });
  const vanished = changes.vanished_items.length ? [make("p", {}, `Items that the index lacks: ${changes.vanished_items.slice(0, MOST).map((one) => one.item_id).join(", ")}`)] : [];
  const differing = changes.other_settings.map((text) => make("p", { className: "warning" }, `Not alike: ${text}`));
  const list = rows.length ? table(CHANGE_HEADS, rows, (place) => place === 1 || place === 2) : make("p", {}, "No page has changed.");
  return [make("h3", {}, `Since ${changes.before}, over ${changes.queries.shared} queries`), ...differing, make("ul", {}, ...rates), ...vanished, make("h3", {}, "Queries that changed most"), list];
}

const CHANGE_HEADS = ["Query", "Good results", "Change", "Results"];
const PAGE_HEADS = ["Query", "Page", "Good results", "Results"];

function pages(queries) {
  const rows = queries.slice(0, MOST).map((one) => {
    const link = make("a", { href: `../?${new URLSearchParams({ query: one.query })}` }, one.query);
    const cells = [link, make("span", { className: `page-of ${one.page}` }, one.page), number(one.item_goodrate), String(one.results)];
    return make("tr", {}, ...cells.map((value, place) => make("td", { "data-head": PAGE_HEADS[place], className: place > 1 ? "n" : "" }, value)));
  });
  return table(PAGE_HEADS, rows, (place) => place > 1);
}
load();
