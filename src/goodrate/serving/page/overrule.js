// At a result: who overruled the judge, and a form to do so. What is said counts from the next search on.
import { make, sendJson } from "./dom.js";
import { hasPage } from "./pages.js";
import { raterName, rememberRater } from "./rater.js";

const CHANGED = "goodrate:overruled"; // an event of the document: searches are to be made anew

/** action(text): called when somebody has overruled the judge, or undone that, with what happened. */
export const whenOverruled = (action) => document.addEventListener(CHANGED, (event) => action(event.detail));

/** Say that the judge says something else from here on, and what happened. */
export const tellOverruled = (text) => document.dispatchEvent(new CustomEvent(CHANGED, { detail: text }));

/** "Set by NAME until DATE", for a result whose verdict is a person's; null for the judge's own. */
export function overruleMark(verdict) {
  const one = verdict?.overrule;
  return one ? make("div", { className: "set-by" }, `Set by ${one.by}${one.until ? ` until ${one.until}` : ""}`) : null;
}

/** Fill a place with what a person can say of a result, where the server has a workbench. */
export async function fillOverrule(place, answer, result) {
  if (!answer.labels.length || !(await hasPage("overrules/"))) return;
  const query = answer.correction?.used ? answer.correction.text : answer.query;
  const one = result.verdict?.overrule;
  place.replaceChildren(make("h4", {}, one ? "A person's verdict" : "Is that wrong?"), one ? standing(one) : offer(place, query, answer, result));
}

/** What the judge says itself, and the button that lets it count again. */
function standing(one) {
  const own = one.judge ? `The judge says ${one.judge.label ?? "nothing: it failed"}.` : "The judge was not asked.";
  const wrong = make("p", { className: "warning", role: "alert" });
  const undo = make("button", { type: "button", className: "small" }, "Undo");
  undo.onclick = () => change(wrong, `Undone: the judge's verdict counts again for ${one.item_id}.`, () => sendJson(`overrules/${one.id}?${new URLSearchParams({ by: raterName() || one.by })}`, {}, "DELETE"));
  return make("div", {}, make("p", {}, `${own} ${one.by} says ${one.label}${one.reason ? `: ${one.reason}` : ""}.`), undo, wrong);
}

function offer(place, query, answer, result) {
  const open = make("button", { type: "button", className: "small" }, "Overrule the judge");
  open.onclick = () => {
    place.replaceChildren(make("h4", {}, "Your verdict"), form(query, answer, result));
    place.querySelector("select").focus();
  };
  return open;
}

function form(query, answer, result) {
  const labels = [...answer.labels].reverse().map((label) => make("option", { value: label }, label));
  const label = make("select", { name: "label" }, ...labels);
  if (result.verdict?.label) label.value = result.verdict.label;
  const by = make("input", { name: "by", type: "text", required: true, maxLength: 100, value: raterName(), autocomplete: "name" });
  const reason = make("input", { name: "reason", type: "text", maxLength: 2000 });
  const until = make("input", { name: "until", type: "date" });
  const wrong = make("p", { className: "warning", role: "alert" });
  const named = (text, field) => make("label", {}, make("span", {}, text), field);
  const asked = make("form", { className: "overrule" }, named("It is", label), named("Your name", by), named("Why", reason), named("Until (or for ever)", until), make("button", { className: "small", type: "submit" }, "Set"), wrong);
  asked.onsubmit = (event) => {
    event.preventDefault();
    const said = { query, item_id: result.item_id, label: label.value, by: by.value.trim(), reason: reason.value.trim(), until: until.value || null };
    rememberRater(said.by);
    change(wrong, `Kept: “${result.item.title || result.item_id}” is ${said.label} for “${query}”, and stands where that puts it.`, () => sendJson("overrules", said));
  };
  return asked;
}

async function change(wrong, told, send) {
  try {
    await send();
    tellOverruled(told);
  } catch (error) {
    wrong.textContent = error.message;
  }
}
