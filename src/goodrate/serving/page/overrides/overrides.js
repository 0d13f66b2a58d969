// The page of overrides: those that hold, a form for one of many queries, and who changed what when.
import { byId, counted, fetchJson, make } from "../dom.js";
import { overrideForm, removal } from "../override.js";
import { showPages } from "../pages.js";

const HEADS = ["Queries", "Entities", "Verdict", "Note", ""];
const LOG_HEADS = ["When", "Who", "What", "Judged pairs"];

const queriesOf = (one) => (one.query === null ? `that match ${one.pattern}` : one.query);
const entitiesOf = (one) => [one.type && `${one.type}:`, one.entity ?? (one.contains && `with ${one.contains}`) ?? "all"].filter(Boolean).join(" ");

async function load(said = "") {
  try {
    const found = await fetchJson("../overrides", {});
    byId("status").replaceChildren([said, counted(found.overrides.length, "override")].filter(Boolean).join(" "));
    byId("list").replaceChildren(found.overrides.length ? table(HEADS, found.overrides.map(row)) : notice("Nobody overrules an entity", "What the judge says counts for every query."));
    byId("form").replaceChildren(overrideForm({ types: found.types }, "../", again));
    byId("log").replaceChildren(found.log.length ? table(LOG_HEADS, found.log.map(logged)) : make("p", {}, "Nothing yet."));
  } catch (error) {
    byId("list").replaceChildren(notice("That did not work", error.message, "error"));
  }
}

async function again(said) {
  await load(said);
  byId("status").focus();
}

const row = (one) => [[queriesOf(one)], [entitiesOf(one)], [make("b", {}, one.verdict)], [one.note || "–"], [removal(one.id, "../", again)]];

function logged(line) {
  const what = line.override ? `${line.did}: ${queriesOf({ query: null, ...line.override })}, ${entitiesOf(line.override)}: ${line.override.verdict}` : `${line.did}: ${counted(line.overrides.length, "override")}`;
  const effect = line.effect ? `${line.effect.better} better, ${line.effect.worse} worse of ${line.effect.pairs}` : "not counted";
  return [[new Date(line.saved).toLocaleString()], [line.by ?? "–"], [what], [effect]];
}

function table(heads, rows) {
  const head = make("thead", {}, make("tr", {}, ...heads.map((text) => (text ? make("th", { scope: "col" }, text) : make("td", {})))));
  const lines = rows.map((cells) => make("tr", {}, ...cells.map((content, place) => make("td", { "data-head": heads[place] }, make("span", {}, ...content)))));
  return make("table", { className: "list stacked" }, head, make("tbody", {}, ...lines));
}

const notice = (title, text, kind = "") => make("div", { className: `notice ${kind}` }, make("h2", {}, title), make("p", {}, text));

showPages("../", "overrides/");
load();
