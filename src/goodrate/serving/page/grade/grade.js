// The page of grading: one pair after the other, by columns of the rule book or by label, with the keyboard alone if wanted.
import { byId, fetchJson, make, percent, sendJson } from "../dom.js";
import { showPages } from "../pages.js";
import { attachRater, raterName } from "../rater.js";
import { columnFields, decidingRule, openColumns } from "./columns.js";
import { itemCard } from "./item.js";

let scheme = null; // labels, columns, rules
let shown = null; // the pair on the page: what is said of it, how to save it, its keys

const notice = (title, text, kind = "", ...more) => make("div", { className: `notice ${kind}`, role: kind ? "alert" : "" }, make("h2", {}, title), make("p", {}, text), ...more);
const again = (action, text = "Try again") => make("button", { type: "button", className: "small", onclick: action }, text);

async function start() {
  showPages("../", "grade/");
  try {
    scheme = await fetchJson("../grading", {});
  } catch (error) {
    return byId("task").replaceChildren(notice("There is nothing to grade", error.message, "error", again(start)));
  }
  attachRater(byId("rater"), () => { byId("status").textContent = ""; follow(); });
  if (raterName()) return follow();
  byId("task").replaceChildren(notice("Who are you?", "Your name stands at every grade that you give."));
  byId("rater").querySelector("input").focus();
}

/** Show the rater's next pair, her progress and her last grades. */
async function follow() {
  shown = null;
  try {
    const { pair, progress } = await fetchJson("../grading/next", { rater: raterName() });
    showProgress(progress);
    if (pair) show(pair);
    else byId("task").replaceChildren(done(progress));
    await Promise.all([showMine(), showAgreement(progress)]);
  } catch (error) {
    byId("task").replaceChildren(notice("That did not work", error.message, "error", again(follow)));
  }
}

function done(progress) {
  const waiting = progress.remaining > 0;
  const text = waiting ? "Other raters have the last pairs in front of them." : `You have graded ${progress.mine.toLocaleString()}; ${progress.finished.toLocaleString()} of ${progress.pairs.toLocaleString()} pairs have ${progress.raters === 1 ? "a grade" : `${progress.raters} grades`}.`;
  return notice("Nothing is left for you", text, "", again(follow, "Look again"));
}

function showProgress(progress) {
  const wanted = progress.pairs * progress.raters;
  const told = `${progress.finished.toLocaleString()} of ${progress.pairs.toLocaleString()} pairs done, ${progress.mine.toLocaleString()} by you`;
  const bar = make("progress", { max: wanted, value: Math.min(progress.votes, wanted), "aria-label": "Grades given" });
  byId("progress").replaceChildren(make("span", {}, told), bar, make("span", {}, progress.skipped ? `${progress.skipped} skipped` : ""));
  byId("progress").hidden = false;
}

/** A pair with its form. earlier: what the rater said of it before, where she corrects it. */
function show(pair, earlier = null) {
  const said = { ...(earlier?.said ?? {}) };
  const token = `${Date.now()}-${Math.random()}`;
  const time = stopwatch();
  let chosen = earlier?.label ?? null; // a label that the rater chose; null: that of the rules
  const rule = () => decidingRule(scheme.rules, said);
  const label = () => chosen ?? rule()?.label ?? null;
  const against = () => scheme.rules.length > 0 && label() !== null && label() !== rule()?.label;

  const reason = make("input", { type: "text", maxLength: 2000, value: earlier?.reason ?? "" });
  const reasonWords = make("span", {});
  const byRules = make("p", { className: "by-rules", "aria-live": "polite" });
  const wrong = make("p", { className: "warning", role: "alert" });
  const buttons = labelButtons((one) => { chosen = one === rule()?.label ? null : one; refresh(); });
  const save = make("button", { type: "submit", className: "go" }, "Save", make("kbd", { "aria-hidden": "true" }, "Enter"));
  const refresh = () => {
    for (const [one, button] of buttons.of) button.setAttribute("aria-pressed", String(one === label()));
    byRules.replaceChildren(...rulesSay(rule(), said));
    byRules.classList.toggle("against", against());
    reason.required = against();
    reasonWords.textContent = against() ? "Why is it not what the rules say?" : "Comment";
    save.disabled = label() === null;
  };
  const columns = columnFields(scheme.columns, said, refresh);
  const send = async (kind) => {
    if (kind === "label" && label() === null) return;
    if (kind === "label" && against() && !reason.value.trim()) return reason.focus();
    wrong.textContent = "";
    form.inert = true;
    const vote = { pair: pair.pair, rater: raterName(), kind, label: kind === "label" ? label() : null, said, reason: reason.value.trim(), seconds: time(), token };
    try {
      await sendJson("../grading/votes", vote);
      byId("status").textContent = { label: `Saved: ${vote.label}.`, skip: "Skipped: it comes again at the end.", cannot_tell: "Saved: cannot tell." }[kind];
      await follow();
    } catch (error) {
      wrong.textContent = `Not saved: ${error.message}`;
      form.inert = false;
    }
  };
  const ends = [["Skip", "s", "skip"], ["Cannot tell", "x", "cannot_tell"]].map(([text, key, kind]) => make("button", { type: "button", className: "small", onclick: () => send(kind) }, text, make("kbd", { "aria-hidden": "true" }, key)));
  const form = make("form", { className: "card form", autocomplete: "off" }, columns.element, byRules, buttons.element, make("label", { className: "why-field" }, reasonWords, reason), make("div", { className: "ends" }, save, ...ends), wrong);
  form.onsubmit = (event) => { event.preventDefault(); send("label"); };
  if (!scheme.rules.length) byRules.hidden = true;
  refresh();
  const hint = earlier ? "You correct a grade" : pair.skipped ? "You skipped this one before" : "The query";
  const asked = make("h2", { className: "asked", tabIndex: -1 }, make("span", {}, hint), pair.query);
  byId("task").replaceChildren(make("div", { className: "grading" }, asked, itemCard(pair), form));
  asked.focus({ preventScroll: true });
  shown = { form, keys: new Map([...columns.keys, ...buttons.keys, ["s", () => send("skip")], ["x", () => send("cannot_tell")], ["Enter", () => form.requestSubmit()]]) };
}

/** A button for each label, best first; a label of one digit is its own key, others are numbered. */
function labelButtons(choose) {
  const best = [...scheme.labels].reverse();
  const digits = best.every((label) => /^[0-9]$/.test(label));
  const made = best.map((label, place) => {
    const key = digits ? label : String(place + 1);
    const button = make("button", { type: "button", title: scheme.descriptions[label] ?? "", "aria-pressed": "false", onclick: () => choose(label) }, label, digits ? null : make("kbd", { "aria-hidden": "true" }, key));
    return { label, key, button };
  });
  return {
    element: make("div", { className: "choices", role: "group", "aria-label": "Label" }, ...made.map((one) => one.button)),
    of: made.map((one) => [one.label, one.button]),
    keys: made.map((one) => [one.key, () => choose(one.label)]),
  };
}

function rulesSay(rule, said) {
  if (rule) return ["By the rules: ", make("b", {}, rule.label), `, because ${rule.because}`];
  return [`The rules say nothing yet: ${openColumns(scheme.columns, said).join(", ")} is open`];
}

/** Seconds since now, without the time that the page was hidden. */
function stopwatch() {
  let seen = 0;
  let since = document.hidden ? null : performance.now();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && since !== null) { seen += performance.now() - since; since = null; }
    else if (!document.hidden && since === null) since = performance.now();
  });
  return () => Math.round((seen + (since === null ? 0 : performance.now() - since)) / 100) / 10;
}

async function showMine() {
  const { votes } = await fetchJson("../grading/votes", { rater: raterName(), limit: 5 });
  const rows = votes.map((vote) => {
    const name = vote.item?.title || vote.title || vote.item_id;
    const correct = make("button", { type: "button", className: "small", "aria-label": `Correct: ${name} for ${vote.query}` }, "Correct");
    correct.onclick = () => { show(vote, vote); scrollTo(0, 0); };
    return make("li", {}, make("span", { className: "of" }, make("b", {}, vote.label ?? "cannot tell"), ` ${name} for “${vote.query}”`), correct);
  });
  byId("mine").querySelector("ul").replaceChildren(...rows);
  byId("mine").hidden = !rows.length;
}

async function showAgreement(progress) {
  if (progress.raters < 2) return;
  const { periods } = await fetchJson("../grading/agreement", {});
  const number = (value) => (value === null ? "–" : value.toFixed(2));
  const heads = ["Day", "Pairs", "Same label", "Kappa", "Quadratic", "Alpha"].map((text, place) => make("th", { scope: "col", className: place ? "n" : "" }, text));
  const rows = periods.map((one) => {
    const cells = [one.first.slice(0, 10), String(one.pairs), percent(one.same), number(one.kappa), number(one.kappa_quadratic), number(one.alpha)];
    return make("tr", {}, ...cells.map((text, place) => make("td", { className: place ? "n" : "" }, text)));
  });
  byId("agreement").querySelector(".wide").replaceChildren(make("table", { className: "list" }, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)));
  byId("agreement").hidden = !rows.length;
}

document.addEventListener("keydown", (event) => {
  if (!shown || shown.form.inert || event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  if (target.matches("input[type=text], select, textarea")) return; // Enter in the comment submits the form itself
  if (event.key === "Enter" && target.matches("button, a") && !target.closest(".choices")) return; // they act themselves
  const act = shown.keys.get(event.key.length === 1 ? event.key.toLowerCase() : event.key);
  if (!act) return;
  event.preventDefault();
  act();
});
start();
