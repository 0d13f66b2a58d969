// What an editor says against a judge of entities: a form that shows what it would change before it is saved, and the
// entities of a result with a way to overrule each.
import { fetchJson, make, sendJson } from "./dom.js";
import { tellOverruled } from "./overrule.js";
import { hasPage } from "./pages.js";
import { raterName, rememberRater } from "./rater.js";

const VERDICTS = { conflict: "conflicts", support: "supports", neutral: "says nothing" };
const SCOPES = { query: "this query alone", words: "queries with these words", after: "words behind" };
const option = (value, text) => make("option", { value }, text);
const select = (name, choices) => make("select", { name }, ...Object.entries(choices).map(([value, text]) => option(value, text)));
const named = (text, field) => make("label", {}, make("span", {}, text), field);

/** What an effect says, one line each. */
export const effectLines = (told) => told.lines.map((line) => make("p", {}, line));

/** An entity, as the judge reads it. */
const entityText = (one) => `${one.type}: ${one.text}`;

/**
 * A form for one override. given: {query, type, entity} of a result, or {types} for a class. root: the address of the
 * search page from here. saved(text): called when it holds, with what happened.
 */
export function overrideForm(given, root, saved) {
  const verdict = select("verdict", VERDICTS);
  const scope = select("scope", given.query === undefined ? { after: SCOPES.after, words: SCOPES.words, query: "one query" } : SCOPES);
  const text = make("input", { name: "text", type: "text", required: true, maxLength: 500, value: given.query ?? "without, no, not" });
  const entity = make("input", { name: "entity", type: "text", maxLength: 200 });
  const type = select("type", { "": "any", ...Object.fromEntries((given.types ?? []).map((one) => [one, one])) });
  const note = make("input", { name: "note", type: "text", maxLength: 500 });
  const by = make("input", { name: "by", type: "text", required: true, maxLength: 100, value: raterName(), autocomplete: "name" });
  const effect = make("div", { className: "effect", role: "status" });
  const wrong = make("p", { className: "warning", role: "alert" });
  const save = make("button", { className: "small", type: "submit", disabled: true }, "Save");
  const preview = make("button", { className: "small", type: "button" }, "Preview");
  const which = given.entity === undefined ? [named("Entities with", entity), named("Of type", type)] : [];
  const form = make("form", { className: "overrule" }, named("The entity", verdict), named("For", scope), named("Query or words", text), ...which, named("Note", note), named("Your name", by), make("div", {}, preview, " ", save), effect, wrong);
  const said = () => {
    const queries = { [scope.value]: scope.value === "after" ? text.value.split(",").map((word) => word.trim()).filter(Boolean) : text.value.trim() };
    const entities = given.entity === undefined ? { contains: entity.value.trim() || null, type: type.value || null } : { type: given.type, entity: given.entity };
    return { verdict: verdict.value, ...queries, ...entities, note: note.value.trim() };
  };
  form.oninput = () => {
    save.disabled = true;
    effect.replaceChildren();
  };
  preview.onclick = () => attempt(wrong, async () => {
    effect.replaceChildren(...effectLines(await sendJson(`${root}overrides/preview`, { override: said() })));
    save.disabled = false;
  });
  form.onsubmit = (event) => {
    event.preventDefault();
    rememberRater(by.value.trim());
    attempt(wrong, async () => {
      const told = await sendJson(`${root}overrides`, { ...said(), by: by.value.trim() });
      saved(`Saved, for every search from here on. ${told.lines[0]}.`);
    });
  };
  return form;
}

/** A form that takes an override away, once it has shown what that changes. gone(text): called when it is away. */
export function removal(id, root, gone) {
  const by = make("input", { name: "by", type: "text", required: true, maxLength: 100, value: raterName(), autocomplete: "name", "aria-label": "Your name" });
  const effect = make("div", { className: "effect", role: "status" });
  const wrong = make("p", { className: "warning", role: "alert" });
  const look = make("button", { type: "button", className: "small" }, "Take away…");
  const away = make("form", { hidden: true }, by, " ", make("button", { type: "submit", className: "small" }, "Take it away"));
  look.onclick = () => attempt(wrong, async () => {
    effect.replaceChildren(...effectLines(await sendJson(`${root}overrides/preview`, { remove: id })));
    [look.hidden, away.hidden] = [true, false];
  });
  away.onsubmit = (event) => {
    event.preventDefault();
    rememberRater(by.value.trim());
    attempt(wrong, async () => {
      const told = await sendJson(`${root}overrides/${id}?${new URLSearchParams({ by: by.value.trim() })}`, {}, "DELETE");
      gone(`Taken away: the judge's own verdict counts again. ${told.lines[0]}.`);
    });
  };
  return make("div", {}, look, effect, away, wrong);
}

async function attempt(wrong, action) {
  wrong.replaceChildren();
  try {
    await action();
  } catch (error) {
    wrong.textContent = error.message;
  }
}

/** Fill a place of a result with its entities, where the server's judge is one of entities and this is an editor. */
export async function fillEntities(place, answer, result) {
  if (!answer.labels.length || !(await hasPage("overrides/"))) return;
  const query = answer.correction?.used ? answer.correction.text : answer.query;
  const open = make("button", { type: "button", className: "small" }, "What each entity says");
  const wrong = make("p", { className: "warning", role: "alert" });
  open.onclick = () => attempt(wrong, async () => {
    const { entities } = await fetchJson("overrides/entities", { query, item_id: result.item_id });
    place.replaceChildren(make("h4", {}, "Entities"), entityTable(query, entities));
  });
  place.replaceChildren(make("h4", {}, "Entities"), open, wrong);
}

function entityTable(query, entities) {
  if (!entities.length) return make("p", {}, "The item has none.");
  const heads = ["entity", "supports", "conflicts"].map((name, at) => make("th", { className: at ? "n" : "", scope: "col" }, name));
  const head = make("thead", {}, make("tr", {}, ...heads, make("td", {})));
  return make("table", {}, head, make("tbody", {}, ...entities.flatMap((one) => entityRows(query, one))));
}

function entityRows(query, one) {
  const body = make("td", { colSpan: 4 });
  const below = make("tr", { hidden: true }, body);
  const button = make("button", { type: "button", className: "plain", "aria-label": `${one.override ? "Overruled" : "Overrule"}: ${entityText(one)}`, "aria-expanded": "false" }, one.override ? "overruled" : "Overrule");
  button.onclick = () => {
    below.hidden = !below.hidden;
    button.setAttribute("aria-expanded", String(!below.hidden));
    if (!below.hidden && !body.childElementCount) body.append(one.override ? removal(one.override, "", tellOverruled) : overrideForm({ query, type: one.type, entity: one.text }, "", tellOverruled));
  };
  const degrees = [one.support, one.conflict].map((degree) => make("td", { className: "n" }, degree.toFixed(2)));
  return [make("tr", {}, make("td", {}, entityText(one)), ...degrees, make("td", {}, button)), below];
}
