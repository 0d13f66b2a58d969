// The page of overrules: those that hold, those that are over, and a button that undoes one.
import { byId, counted, fetchJson, make, sendJson } from "../dom.js";
import { showPages } from "../pages.js";
import { attachRater, raterName } from "../rater.js";

const HEADS = ["Query", "Item", "Verdict", "Set by", "Why", "Holds", ""];
let said = ""; // what the last click did

async function load() {
  const every = byId("every").checked;
  try {
    const { overrules } = await fetchJson("../overrules", every ? { every } : {});
    show(overrules);
  } catch (error) {
    byId("status").replaceChildren();
    byId("list").replaceChildren(notice("That did not work", error.message, "error"));
  }
}

function show(overrules) {
  const holding = overrules.filter((one) => one.state === "holds").length;
  byId("status").replaceChildren([said, `${counted(holding, "overrule")} ${holding === 1 ? "holds" : "hold"}`].filter(Boolean).join(" "));
  if (!overrules.length) return byId("list").replaceChildren(notice("Nobody overrules the judge", "What it says counts for every query and item."));
  const head = make("thead", {}, make("tr", {}, ...HEADS.map((text) => (text ? make("th", { scope: "col" }, text) : make("td", {})))));
  byId("list").replaceChildren(make("table", { className: "list stacked" }, head, make("tbody", {}, ...overrules.map(row))));
}

function row(one) {
  const until = one.until ? `until ${one.until}` : "until undone";
  const holds = { holds: until, expired: `expired, ${until}`, undone: `undone by ${one.undone_by}` }[one.state];
  const undo = make("button", { type: "button", className: "small", "aria-label": `Undo: ${one.label} for ${one.query} and ${one.title ?? one.item_id}` }, "Undo");
  undo.onclick = () => undoOne(one, undo);
  const link = make("a", { href: `../?${new URLSearchParams({ query: one.query })}` }, one.query);
  const item = [make("span", {}, one.title ?? "not in the index"), make("span", { className: "count" }, ` ${one.item_id}`)];
  const made = new Date(one.made).toLocaleDateString(undefined, { dateStyle: "medium" });
  const values = [[link], item, [make("b", {}, one.label)], [one.by, make("span", { className: "count" }, ` ${made}`)], [one.reason || "–"], [holds], [one.state === "holds" ? undo : ""]];
  const line = make("tr", {}, ...values.map((content, place) => make("td", { "data-head": HEADS[place] }, make("span", {}, ...content))));
  if (one.state !== "holds") line.className = "over";
  return line;
}

async function undoOne(one, button) {
  if (!raterName()) return byId("rater").querySelector("input").focus();
  button.disabled = true;
  try {
    await sendJson(`../overrules/${one.id}?${new URLSearchParams({ by: raterName() })}`, {}, "DELETE");
    said = `Undone: the judge's verdict of “${one.title ?? one.item_id}” counts again for “${one.query}”.`;
  } catch (error) {
    said = error.message;
  }
  await load();
  byId("status").focus();
}

const notice = (title, text, kind = "") => make("div", { className: `notice ${kind}` }, make("h2", {}, title), make("p", {}, text));

attachRater(byId("rater"), () => {});
byId("status").tabIndex = -1;
byId("every").onchange = load;
showPages("../", "overrules/");
load();
