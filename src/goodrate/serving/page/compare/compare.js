// Side by side: two lists a query, which system is which is not known here; a vote, then the next query.
import { byId, fetchJson, make, sendJson } from "../dom.js";
import { factsOf, picture } from "../items.js";
import { showPages } from "../pages.js";
import { attachRater, raterName } from "../rater.js";

const SIDES = ["left", "same", "right"];
const KEYS = { 1: "left", ArrowLeft: "left", 2: "same", 3: "right", ArrowRight: "right" };
const buttons = SIDES.map((side) => document.querySelector(`#vote [name=${side}]`));
let queries = []; // of the set, in order: id, query, voted
let at = 0; // which of them is shown
let busy = false; // a vote or a query is under way

/** The sets, or the one in the address. Whoever has no name is asked for it first. */
async function start() {
  byId("work").hidden = true;
  if (!raterName()) {
    byId("start").replaceChildren(make("p", { className: "lead" }, "Say who you are: your votes carry your name, and you go on where you stopped."));
    return byId("rater").querySelector("input").focus();
  }
  try {
    const { sets } = await fetchJson("sets", {});
    const wanted = new URLSearchParams(location.search).get("set");
    const chosen = sets.find((one) => String(one.id) === wanted);
    if (chosen) return await open(chosen);
    byId("title").textContent = "Side by side";
    byId("start").replaceChildren(sets.length ? choice(sets) : notice("There is nothing to compare", "goodrate compare A B --queries FILE --out DIR makes a set for this workbench."));
  } catch (error) {
    showError(error.message);
  }
}

function choice(sets) {
  const ways = sets.map((one) => {
    const text = one.asked ? `${one.asked.toLocaleString()} ${one.asked === 1 ? "query" : "queries"} to compare` : "both systems find the same: nothing to compare";
    const way = make("button", { type: "button", className: "set", disabled: !one.asked }, make("b", {}, one.name), make("span", { className: "count" }, text));
    way.onclick = () => { history.pushState(null, "", `?set=${one.id}`); start(); };
    return way;
  });
  return make("div", {}, make("p", { className: "lead" }, "Two searches answer the same queries. Say for each which results a customer would rather have; which search is which is hidden, and they change sides at random."), make("div", { className: "ways" }, ...ways));
}

async function open(set) {
  byId("title").textContent = set.name;
  document.title = `${set.name} · goodrate`;
  ({ queries } = await fetchJson(`sets/${set.id}`, { rater: raterName() }));
  const first = queries.findIndex((one) => !one.voted);
  if (first < 0) return finished();
  await show(first);
}

const done = () => queries.filter((one) => one.voted).length;

function finished() {
  byId("work").hidden = true;
  const again = make("button", { type: "button", onclick: () => show(0) }, "Look through them again");
  byId("start").replaceChildren(notice("That was all", `You have compared ${done()} of ${queries.length}. Thank you.`, "", again));
  byId("title").focus();
}

/** Show one query. Its vote, if there is one, is pressed and may be changed. */
async function show(place) {
  busy = true;
  try {
    const one = await fetchJson(`queries/${queries[place].id}`, { rater: raterName() });
    at = place;
    byId("start").replaceChildren();
    byId("work").hidden = false;
    byId("query").textContent = `“${one.query}”`;
    byId("progress").textContent = `${done()} of ${queries.length} compared`;
    byId("bar").max = queries.length;
    byId("bar").value = done();
    fill("left", one.left, one.right);
    fill("right", one.right, one.left);
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.name === one.better)));
    byId("comment").value = one.comment;
    byId("back").disabled = place === 0;
    byId("wrong").textContent = "";
    scrollTo(0, 0);
  } catch (error) {
    if (byId("work").hidden) showError(error.message);
    else byId("wrong").textContent = error.message;
  } finally {
    busy = false;
  }
}

function fill(side, items, others) {
  const pictures = [...items, ...others].some((item) => item.image);
  const placeOf = new Map(others.map((item, index) => [item.id, index + 1]));
  const other = side === "left" ? "right" : "left";
  const cards = items.map((item, index) => card(item, index + 1, pictures, placeOf.has(item.id) ? `also ${other}, place ${placeOf.get(item.id)}` : `only ${side}`));
  byId(side).replaceChildren(...(cards.length ? cards : [make("li", { className: "one" }, make("span", {}), make("span", { className: "also" }, "Nothing found"))]));
}

function card(item, place, pictures, where) {
  const more = Object.entries(item.attributes ?? {}).map(([name, value]) => make("p", {}, `${name}: ${[value].flat().join(", ")}`));
  if (item.description) more.unshift(make("p", {}, item.description));
  const details = more.length ? make("details", {}, make("summary", {}, "More"), ...more) : null;
  const body = make("div", {}, make("h3", {}, item.title || item.id), make("div", { className: "facts" }, ...factsOf(item)), make("div", { className: "also" }, where), details);
  const made = make("li", { className: "one" }, make("span", { className: "place" }, String(place)), pictures ? picture(item) : null, body);
  if (pictures) made.classList.add("pictured");
  return made;
}

/** Keep a vote; the next query comes when the server says that it is kept. */
async function vote(better) {
  if (busy || byId("work").hidden) return;
  busy = true;
  try {
    await sendJson("votes", { query_id: queries[at].id, rater: raterName(), better, comment: byId("comment").value });
    queries[at].voted = true;
  } catch (error) {
    byId("wrong").textContent = `${error.message} Your vote is not kept.`;
    return;
  } finally {
    busy = false;
  }
  await next();
}

/** To the next query without a vote, in a circle; to the end when there is none. */
async function next() {
  const order = queries.map((_, step) => (at + 1 + step) % queries.length);
  const place = order.find((one) => !queries[one].voted && one !== at) ?? order.find((one) => !queries[one].voted);
  if (place === undefined) return finished();
  await show(place);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || byId("work").hidden) return;
  if (event.target.closest("input")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const others = { b: () => byId("back").click(), s: () => byId("skip").click(), c: () => byId("comment").focus() };
  const action = KEYS[event.key] ? () => vote(KEYS[event.key]) : others[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

const notice = (title, text, kind = "", ...more) => make("div", { className: `notice ${kind}` }, make("h2", {}, title), make("p", {}, text), ...more);

function showError(message) {
  byId("work").hidden = true;
  byId("start").replaceChildren(notice("That did not work", message, "error", make("button", { type: "button", onclick: start }, "Try again")));
}

buttons.forEach((button) => { button.onclick = () => vote(button.name); });
byId("back").onclick = () => { if (!busy && at > 0) show(at - 1); };
byId("skip").onclick = () => { if (!busy) next(); };
byId("vote").onsubmit = (event) => { event.preventDefault(); byId("comment").blur(); };
document.addEventListener("keydown", onKey);
addEventListener("popstate", start);
attachRater(byId("rater"), start);
showPages("../", "compare/");
start();
