// The search page: what is typed and clicked becomes a state (state.js), a state becomes an address, an answer and a view.
import { showChips, filterText } from "./chips.js";
import { resultCard } from "./cards.js";
import { byId, counted, fetchJson, make } from "./dom.js";
import { attachSheet, showFacets } from "./facets.js";
import { attachHistory, keptScroll, push, replace } from "./history.js";
import { whenOverruled } from "./overrule.js";
import { showPages } from "./pages.js";
import { findAll, findMore } from "./search.js";
import { addressOf, filtersOf, PAGE, stateOf, toggled, withoutFilters } from "./state.js";
import { attachSuggestions } from "./suggest.js";

const [form, filters, list, notice, more] = ["search", "filters", "results", "notice", "more"].map(byId);
let state = stateOf(location.search);
let answer = null; // the one that is shown
let running = null; // AbortController of the search under way

/** Search for another state and make it an entry of the history. */
function go(next) {
  state = { ...next, shown: PAGE };
  push(addressOf(state));
  return run(0);
}

/** Show the state. scroll: how far down, once the results are there. */
async function run(scroll) {
  running?.abort();
  const mine = (running = new AbortController());
  fillForms();
  if (!state.query.trim()) return welcome();
  showLoading();
  try {
    const found = await findAll(state, mine.signal);
    if (mine.signal.aborted) return;
    showAnswer(found);
    scrollTo(0, scroll);
  } catch (error) {
    if (!mine.signal.aborted) showError(error.message);
  }
}

const fillMode = () => { byId("mode").value = state.mode || byId("mode").options[0]?.value || ""; };

function fillForms() {
  if (form.elements.query.value.trim() !== state.query) form.elements.query.value = state.query;
  filters.elements.where.value = state.where;
  fillMode();
  byId("sort").value = state.sort;
  if (state.where) byId("more-options").open = true;
}

/** The parts of the page that only a search has. */
function showFrame(searched) {
  for (const part of [byId("side"), byId("open-filters"), byId("sorting")]) part.hidden = !searched;
  const count = filtersOf(state).length;
  byId("open-filters").textContent = count ? `Filter (${count})` : "Filter";
  byId("clear").hidden = !count;
}

const currencyOf = () => answer?.results.find((result) => result.item.currency)?.item.currency ?? "";

function redraw() {
  showFacets(answer?.facets ?? [], state, currencyOf(), {
    choose: (facet, condition) => go(toggled(state, facet, condition)),
    bound: (name, value) => go({ ...state, [name]: value.trim() }),
    redraw,
  });
}

function showAnswer(found) {
  answer = found;
  document.title = `${answer.query} · goodrate`;
  list.removeAttribute("aria-busy");
  list.classList.remove("waiting");
  showFrame(true);
  showChips(state, answer, currencyOf(), go);
  redraw();
  list.replaceChildren();
  addCards(answer.results, 0);
  notice.replaceChildren(...(answer.results.length ? [] : [emptyNotice()]));
  showCounts();
}

function addCards(results, before) {
  const pictures = answer.results.some((result) => result.item.image);
  list.append(...results.map((result, index) => resultCard(answer, result, before + index + 1, pictures)));
}

/** How many results there are and are shown, in the line above them and at their end. */
function showCounts() {
  const count = answer.results.length;
  more.hidden = !count || !answer.more;
  more.querySelector("button").disabled = false;
  more.querySelector("p")?.remove();
  byId("status").replaceChildren(...summaryOf().map((text) => make("span", {}, text)));
  byId("close-filters").textContent = count ? `Show ${counted(answer.counted ?? count, "item")}` : "No results";
}

/** "20 of 812 results"; where variants are one result, "20 results, 812 items found". */
function totalOf() {
  const [shown, found] = [answer.results.length, answer.counted ?? 0];
  const more = answer.complete === false ? "more than " : ""; // the server counts the best of very many items
  if (found <= shown) return counted(shown, "result");
  if (answer.group_by) return `${counted(shown, "result")}, ${more}${counted(found, "item")} found`;
  return answer.more ? `${shown} of ${more}${counted(found, "result")}` : counted(shown, "result");
}

/** What the line above the results says: how many, of which tier, how long it took. */
function summaryOf() {
  const { results, labels } = answer;
  const countOf = (tier) => results.filter((result) => (result.verdict?.tier ?? null) === tier).length;
  const tiers = ["Good", "Mid", "Bad"].filter(countOf).map((tier) => `${countOf(tier)} ${tier}`);
  const lines = [`${totalOf()}${tiers.length ? `: ${tiers.join(", ")}` : ""}`];
  if (labels.length) lines.push(`${answer.judged} of ${answer.retrieved} judged${answer.cached ? ` (${answer.cached} remembered)` : ""}`);
  if (answer.left) lines.push(`${answer.left} not judged in time`);
  if (answer.failed) lines.push(`${answer.failed} could not be judged`);
  const stages = Object.entries(answer.latency_ms).filter(([name, ms]) => name !== "total" && ms >= 1);
  const shares = stages.map(([name, ms]) => `${name} ${Math.round(ms)}`).join(", ");
  return [...lines, `${Math.round(answer.latency_ms.total)} ms${shares ? ` (${shares})` : ""}`];
}

async function showMore() {
  const button = more.querySelector("button");
  const mine = running;
  button.disabled = true;
  try {
    const before = answer.results.length;
    const longer = await findMore(state, answer, PAGE, mine.signal);
    if (mine.signal.aborted) return;
    answer = longer;
    state = { ...state, shown: state.shown + PAGE };
    replace(addressOf(state)); // no entry of its own: Back leaves the search, however much of it was looked at
    addCards(answer.results.slice(before), before);
    showCounts();
    list.children[before]?.focus({ preventScroll: true });
  } catch (error) {
    if (mine.signal.aborted) return;
    button.disabled = false;
    more.querySelector("p")?.remove();
    more.append(make("p", { className: "warning", role: "alert" }, error.message));
  }
}

function clearResults() {
  list.replaceChildren();
  list.classList.remove("waiting");
  list.removeAttribute("aria-busy");
  byId("status").replaceChildren();
  more.hidden = true;
}

const noticeOf = (kind, title, ...content) => make("div", { className: `notice ${kind}` }, make("h2", {}, title), ...content);
const action = (text, onclick) => make("button", { type: "button", onclick }, text);

function welcome() {
  answer = null;
  document.title = "goodrate";
  clearResults();
  showFrame(false);
  byId("chips").replaceChildren();
  notice.replaceChildren(noticeOf("", "What would a customer type?", make("p", {}, "Results come with filters and, where there is a judge, in tiers, each with its reasons.")));
}

/** Nothing was found: what can be taken away. */
function emptyNotice() {
  const chosen = filtersOf(state);
  const ways = chosen.map((filter) => action(`Without ${filterText(filter, answer.facets, currencyOf())}`, () => go(filter.rest)));
  if (chosen.length > 1) ways.push(action("Without any filter", () => go(withoutFilters(state))));
  const read = answer.spans.length ? "Some words were read as conditions; a click on them above takes them as plain words. " : "";
  const hint = chosen.length ? "No item passes the filters." : `${read}No item matches. Try fewer or other words.`;
  return noticeOf("", `Nothing found for “${answer.query}”`, make("p", {}, hint), make("div", { className: "ways" }, ...ways));
}

function showError(message) {
  answer = null;
  clearResults();
  showFrame(true);
  showChips(state, null, "", go);
  redraw();
  const lines = message.split("; ").map((line) => make("p", {}, line));
  const shown = noticeOf("error", "That did not work", ...lines, action("Try again", () => run(0)));
  shown.setAttribute("role", "alert");
  notice.replaceChildren(shown);
  byId("close-filters").textContent = "Close";
}

function showLoading() {
  notice.replaceChildren();
  showFrame(true);
  if (!answer) showChips(state, null, "", go); // what the address says has its place before the answer comes
  more.hidden = true;
  byId("status").replaceChildren("Searching…");
  list.setAttribute("aria-busy", "true");
  if (list.querySelector(".result")) return list.classList.add("waiting");
  list.replaceChildren(...Array.from({ length: 5 }, () => make("li", { className: "skeleton", "aria-hidden": "true" })));
}

/** Move the focus by one result. */
function step(by) {
  const cards = [...list.querySelectorAll(".result")];
  const at = cards.findIndex((card) => card.contains(document.activeElement));
  cards[Math.min(Math.max(at + by, 0), cards.length - 1)]?.focus();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("sheet").open) return;
  if (event.target.closest("input:not([type=checkbox]), select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const card = document.activeElement?.closest(".result");
  const keys = { "/": () => form.elements.query.select(), j: () => step(1), k: () => step(-1), o: () => card?.querySelector(".why").click() };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}

async function describeServer() {
  try {
    const about = await fetchJson("healthz", {});
    byId("mode").replaceChildren(...about.modes.map((mode) => make("option", { value: mode }, mode)));
    const judge = about.judge ? `judge ${about.judge}` : "no judge: results are not put into tiers";
    const warnings = (about.warnings || []).map((warning) => `. Warning: ${warning}`).join("");
    byId("about").textContent = `${about.items.toLocaleString()} items, ${judge}${warnings}`;
    fillMode(); // and nothing else: somebody may be typing
  } catch {
    byId("about").textContent = "The server does not answer.";
  }
}

/** Search for what is typed. Another query begins without the filters that were chosen among the results of the last. */
function submit() {
  const query = form.elements.query.value.trim();
  if (query === state.query) return go(state);
  return go({ ...withoutFilters(state), where: state.where, query, ignore: {}, typed: false });
}

function start() {
  form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  filters.addEventListener("submit", (event) => { event.preventDefault(); go({ ...state, where: filters.elements.where.value.trim() }); });
  byId("mode").addEventListener("change", (event) => go({ ...state, mode: event.target.value }));
  byId("sort").addEventListener("change", (event) => go({ ...state, sort: event.target.value }));
  byId("clear").onclick = () => go(withoutFilters(state));
  more.querySelector("button").onclick = showMore;
  document.querySelector(".skip").onclick = (event) => { event.preventDefault(); list.focus(); };
  document.addEventListener("keydown", onKey);
  attachSuggestions(form.elements.query, byId("suggestions"), submit);
  attachSheet();
  whenOverruled(async (told) => {
    await run(scrollY);
    notice.prepend(make("p", { className: "told", role: "status" }, told));
  });
  attachHistory(() => {
    byId("sheet").close();
    state = stateOf(location.search);
    run(keptScroll());
  });
  run(keptScroll());
  describeServer();
  showPages();
  if (!state.query) form.elements.query.focus();
}

start();
