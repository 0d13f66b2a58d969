// The search page. All text from the catalogue and the judge goes in through textContent: nothing is ever parsed as HTML.
"use strict";

const form = document.getElementById("search");
const list = document.getElementById("results");
const statusLine = document.getElementById("status");
const notice = document.getElementById("notice");
const numbers = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
let running = null; // AbortController of the search under way
let plainWords = new Map(); // parts of the query that a shopper wants as plain words: id -> text
let spelled = true; // whether words may be corrected
let lastQuery = "";

/** An element with properties, and children that are elements or text; null children are left out. */
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The JSON of an address. Throws an Error whose message a person can read. */
async function fetchJson(path, parameters, signal) {
  let response;
  try {
    response = await fetch(`${path}?${new URLSearchParams(parameters)}`, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is goodrate serve still running?");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.message || `The server answered ${response.status}.`);
  return body;
}

/** A text as a pattern that only this text matches, in small or capital letters: \ before %, _ and \, quotes doubled. */
const asPattern = (text) => text.replace(/[\\%_]/g, "\\$&").replaceAll("'", "''");

/** The form's filters as one condition; "" without filters. */
function whereOf(fields) {
  const parts = [];
  if (fields.price_from) parts.push(`price >= ${Number(fields.price_from)}`);
  if (fields.price_to) parts.push(`price <= ${Number(fields.price_to)}`);
  if (fields.rating_from) parts.push(`rating >= ${Number(fields.rating_from)}`);
  if (fields.brand.trim()) parts.push(`brand ILIKE '${asPattern(fields.brand.trim())}'`);
  if (fields.where.trim()) parts.push(`(${fields.where.trim()})`);
  return parts.join(" AND ");
}

const fieldsOf = () => Object.fromEntries(new FormData(form));

async function search() {
  running?.abort();
  const fields = fieldsOf();
  remember(fields);
  if (!fields.query.trim()) return welcome();
  const mine = (running = new AbortController());
  showLoading();
  try {
    const query = fields.query.trim();
    if (query !== lastQuery) [plainWords, spelled] = [new Map(), true];
    lastQuery = query;
    const parameters = [["query", query], ["k", 20], ["where", whereOf(fields)], ...[...plainWords.keys()].map((id) => ["ignore", id])];
    if (!spelled) parameters.push(["ignore", "spelling"]);
    if (fields.mode) parameters.push(["mode", fields.mode]);
    showAnswer(await fetchJson("search", parameters, mine.signal));
  } catch (error) {
    if (error.name !== "AbortError") showError(error.message);
  }
}

/** Keep what was asked in the address, so that a search can be sent to somebody. */
function remember(fields) {
  const given = Object.entries(fields).filter(([, value]) => value.trim());
  history.replaceState(null, "", given.length ? `?${new URLSearchParams(given)}` : location.pathname);
}

function showNotice(kind, title, text, button) {
  list.replaceChildren();
  list.classList.remove("waiting");
  statusLine.replaceChildren();
  if (kind === "error") showParts([], null);
  notice.replaceChildren(make("div", { className: `notice ${kind}` }, make("h2", {}, title), ...text.split("; ").map((line) => make("p", {}, line)), button));
}

function welcome() {
  document.title = "goodrate";
  showNotice("", "What would a customer type?", "Results come in tiers, each with its reasons.");
}

function showError(message) {
  const again = make("button", { type: "button", onclick: search }, "Try again");
  showNotice("error", "That did not work", message, again);
}

function showLoading() {
  notice.replaceChildren();
  statusLine.replaceChildren("Searching…");
  list.setAttribute("aria-busy", "true");
  if (list.querySelector(".result")) return list.classList.add("waiting");
  list.replaceChildren(...Array.from({ length: 5 }, () => make("li", { className: "skeleton", ariaHidden: "true" })));
}

function showAnswer(answer) {
  document.title = `${answer.query} · goodrate`;
  list.removeAttribute("aria-busy");
  showParts(answer.spans, answer.correction);
  if (!answer.results.length) {
    const clear = make("button", { type: "button", onclick: () => { clearFilters(); search(); } }, "Search without filters");
    const hint = answer.where ? "No item passes the filters." : "No item matches. Try fewer or other words.";
    return showNotice("", `Nothing found for “${answer.query}”`, hint, answer.where ? clear : null);
  }
  notice.replaceChildren();
  list.classList.remove("waiting");
  statusLine.replaceChildren(...summaryOf(answer).map((text) => make("span", {}, text)));
  list.replaceChildren(...answer.results.map((result) => resultCard(answer, result)));
}

/** Conditions that were read in the query; a click takes one back to plain words, or makes it a condition again. */
function showParts(spans, correction) {
  const part = (id, text, read) => {
    const what = read ? `${text}: read as a condition. Take it as plain words` : `${text}: plain words. Read it as a condition`;
    const button = make("button", { type: "button", className: read ? "part" : "part off", title: what }, text, make("span", { ariaHidden: "true" }, read ? " ×" : " +"));
    button.setAttribute("aria-label", what);
    button.onclick = () => { read ? plainWords.set(id, text) : plainWords.delete(id); search(); };
    return button;
  };
  document.getElementById("parts").replaceChildren(...(correction ? [correctionLine(correction)] : []), ...spans.map((span) => part(span.id, span.text, true)), ...[...plainWords].map(([id, text]) => part(id, text, false)));
}

/** "Results for laptop", or "Did you mean laptop?", with the other query behind a button. */
function correctionLine(correction) {
  const again = (text, action) => make("button", { type: "button", className: "plain link", onclick: action }, text);
  if (correction.used) {
    const typed = form.elements.query.value.trim();
    return make("p", { className: "meant" }, "Results for ", make("b", {}, correction.text), ". ", again(`Search for “${typed}” instead`, () => { spelled = false; search(); }));
  }
  return make("p", { className: "meant" }, "Did you mean ", again(correction.text, () => { form.elements.query.value = correction.text; search(); }), "?");
}

/** Fill the list under the search box with suggestions for what is typed so far. */
async function suggest() {
  const typed = form.elements.query.value;
  const answer = typed.trim() ? await fetchJson("suggest", { query: typed, k: 8 }).catch(() => null) : null;
  if (form.elements.query.value !== typed) return; // more was typed since
  document.getElementById("suggestions").replaceChildren(...(answer?.suggestions ?? []).map((one) => make("option", { value: one.text })));
}

/** What the line above the results says: how many, of which tier, how long it took. */
function summaryOf(answer) {
  const count = (tier) => answer.results.filter((result) => (result.verdict?.tier ?? null) === tier).length;
  const tiers = ["Good", "Mid", "Bad"].filter(count).map((tier) => `${count(tier)} ${tier}`);
  const noun = answer.results.length === 1 ? "result" : "results";
  const lines = [`${answer.results.length} ${noun}${tiers.length ? `: ${tiers.join(", ")}` : ""}`];
  if (answer.labels.length) lines.push(`${answer.judged} of ${answer.retrieved} judged${answer.cached ? ` (${answer.cached} remembered)` : ""}`);
  if (answer.failed) lines.push(`${answer.failed} could not be judged`);
  const stages = Object.entries(answer.latency_ms).filter(([name, ms]) => name !== "total" && ms >= 1);
  const shares = stages.map(([name, ms]) => `${name} ${Math.round(ms)}`).join(", ");
  return [...lines, `${Math.round(answer.latency_ms.total)} ms${shares ? ` (${shares})` : ""}`];
}

function resultCard(answer, result) {
  const { item, verdict } = result;
  const detail = make("div", { className: "detail", id: `detail-${result.rank}`, hidden: true });
  const why = make("button", { className: "why", type: "button" }, verdict ? "Why" : "Details");
  why.setAttribute("aria-expanded", "false");
  why.setAttribute("aria-controls", detail.id);
  why.onclick = () => toggle(why, detail, answer, result);
  const excluded = result.excluded ? make("span", { className: "excluded" }, "has what you asked to be without") : null;
  const facts = make("div", { className: "facts" }, ...factsOf(item), excluded ?? "");
  const body = make("div", {}, make("h3", {}, item.title || result.item_id), facts, why);
  return make("li", { className: "result", tabIndex: -1 }, make("span", { className: "place" }, String(result.rank)), body, side(answer, verdict), detail);
}

function factsOf(item) {
  return [
    item.price === null ? null : make("span", { className: "price" }, numbers.format(item.price)),
    item.rating === null ? null : make("span", {}, `★ ${item.rating.toFixed(1)}`),
    item.brand ? make("span", {}, item.brand) : null,
    item.category ? make("span", {}, item.category) : null,
  ];
}

/** The tier, the bar of label probabilities and the likeliest label. */
function side(answer, verdict) {
  if (!answer.labels.length) return make("div", { className: "side" });
  const tier = verdict?.tier ?? null;
  const chip = make("span", { className: `chip ${tier ?? ""}` }, tier ?? (verdict ? "No verdict" : "Not judged"));
  if (!tier) return make("div", { className: "side" }, chip);
  const label = make("div", { className: "label" }, `${verdict.label} ${percent(verdict.probabilities[verdict.label])}`);
  return make("div", { className: "side" }, chip, oddsBar(answer.labels, verdict.probabilities), label);
}

const percent = (share) => `${Math.round(100 * share)}%`;
// Colours run from worst to best whatever the number of labels: with 3 labels, 0, 2 (rounded) and 3.
const shade = (index, count) => `l${Math.round((3 * index) / (count - 1))}`;

function oddsBar(labels, probabilities) {
  const bar = make("div", { className: "odds", role: "img" });
  bar.setAttribute("aria-label", labels.map((label) => `${label} ${percent(probabilities[label])}`).join(", "));
  bar.title = bar.getAttribute("aria-label");
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
  if (open && !detail.childElementCount) fillDetail(detail, answer, result);
}

function fillDetail(detail, answer, result) {
  const { verdict, item } = result;
  if (verdict) {
    const reason = make("div", { className: "reason" });
    detail.append(reason);
    loadReason(reason, answer.correction?.used ? answer.correction.text : answer.query, result.item_id);
    if (verdict.tier) detail.append(probabilityTable(answer.labels, verdict.probabilities));
  }
  detail.append(channelTable(result.retrieval));
  const attributes = Object.entries(item.attributes ?? {});
  if (attributes.length) detail.append(section("Attributes", definitions(attributes.map(([name, value]) => [name, [value].flat().join(", ")]))));
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
  const doubt = verdict.inconsistent ? "These steps lead to another label than the one given. Trust neither without a look." : verdict.status !== "ok" ? `The judge failed: ${verdict.status}.` : verdict.reason_status && verdict.reason_status !== "ok" ? `The reason is not whole: ${verdict.reason_status}.` : null;
  return doubt ? [shown, make("p", { className: "warning" }, doubt)] : [shown];
}

function probabilityTable(labels, probabilities) {
  const rows = labels.map((label, index) => make("tr", {}, make("td", {}, make("span", { className: `swatch ${shade(index, labels.length)}` }), label), make("td", { className: "n" }, `${(100 * probabilities[label]).toFixed(1)}%`)));
  return section("Label probabilities", make("table", {}, make("tbody", {}, ...rows.reverse())));
}

function channelTable(retrieval) {
  const heads = ["channel", "rank", "score", "share"].map((name, index) => make("th", { className: index ? "n" : "", scope: "col" }, name));
  const rows = Object.entries(retrieval.channels).map(([name, part]) =>
    make("tr", {}, make("td", {}, name), ...[String(part.rank), part.score.toFixed(3), percent(part.share)].map((text) => make("td", { className: "n" }, text))));
  return section(`Retrieval: place ${retrieval.rank}`, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)));
}

function clearFilters() {
  for (const field of form.querySelectorAll(".filters input, .filters select")) field.value = field.name === "mode" ? field.options[0]?.value ?? "" : "";
}

/** Move the focus by one result. */
function step(by) {
  const cards = [...list.querySelectorAll(".result")];
  const at = cards.findIndex((card) => card.contains(document.activeElement));
  cards[Math.min(Math.max(at + by, 0), cards.length - 1)]?.focus();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) {
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
    document.getElementById("mode").replaceChildren(...about.modes.map((mode) => make("option", { value: mode }, mode)));
    const judge = about.judge ? `judge ${about.judge}` : "no judge: results are not put into tiers";
    const warnings = (about.warnings || []).map((warning) => `. Warning: ${warning}`).join("");
    document.getElementById("about").textContent = `${about.items.toLocaleString()} items, ${judge}${warnings}`;
  } catch {
    document.getElementById("about").textContent = "The server does not answer.";
  }
}

async function start() {
  form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
  form.elements.query.addEventListener("input", suggest);
  form.addEventListener("reset", (event) => { event.preventDefault(); clearFilters(); search(); });
  form.querySelector(".filters").addEventListener("change", () => { if (form.elements.query.value.trim()) search(); });
  const fold = form.querySelector(".fold");
  fold.addEventListener("click", () => fold.setAttribute("aria-expanded", String(form.classList.toggle("open"))));
  document.addEventListener("keydown", onKey);
  await describeServer();
  for (const [name, value] of new URLSearchParams(location.search)) if (form.elements[name]) form.elements[name].value = value;
  search();
}

start();
