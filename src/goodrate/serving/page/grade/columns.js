// The columns of a rule book as choices, and the rule that decides by them, as the server decides (partial_rules.py).
import { make } from "../dom.js";

const NONE = "none"; // a column that has it starts there: most queries ask for little
const KEYS = "abcdefghijklmnopqrtuvwyz"; // not s and x: skip, cannot tell
const NAMES = { category: "Kind of product", brand: "Brand", must: "Requirements", may: "Preferences", not: "Exclusions", quantity: "Amount", fits: "Fit", alternative: "Price" };
const WORDS = { none: "not asked", match: "met", unknown: "not said", conflict: "not met" };
const OWN_WORDS = {
  category: { same: "the same", sibling: "neighbouring", accessory: "goes with it", other: "another" },
  not: { match: "free of it", conflict: "has it" },
  brand: { match: "that one", conflict: "another" },
};
const wordOf = (column, value) => OWN_WORDS[column]?.[value] ?? WORDS[value] ?? value;

/** The rule that decides whatever the columns without a value will have; null while that is open. */
export function decidingRule(rules, said) {
  for (const rule of rules) {
    const conditions = Object.entries(rule.when);
    if (conditions.some(([column, accepted]) => column in said && !accepted.includes(said[column]))) continue;
    return conditions.every(([column]) => column in said) ? rule : null;
  }
  return null;
}

/** Choices for each column. said: column -> value, changed in place; told(): called after each change. */
export function columnFields(columns, said, told) {
  const fields = Object.entries(columns).map(([column, values], place) => {
    if (!(column in said) && values.includes(NONE)) said[column] = NONE;
    const choose = (value) => { said[column] = value; told(); };
    const chips = values.map((value) => {
      const input = make("input", { type: "radio", name: `column-${column}`, value, checked: said[column] === value });
      input.onchange = () => choose(value);
      return make("label", { title: `${column}: ${value}` }, input, wordOf(column, value));
    });
    const key = KEYS[place];
    const cycle = () => {
      const next = values[(values.indexOf(said[column]) + 1) % values.length];
      chips[values.indexOf(next)].querySelector("input").checked = true;
      choose(next);
    };
    const legend = make("legend", {}, key ? make("kbd", { "aria-hidden": "true" }, key) : null, NAMES[column] ?? column);
    return { key, cycle, element: make("fieldset", { className: "column" }, legend, make("div", { className: "values" }, ...chips)) };
  });
  return { element: make("div", { className: "columns-of" }, ...fields.map((one) => one.element)), keys: new Map(fields.filter((one) => one.key).map((one) => [one.key, one.cycle])) };
}

/** The columns that have no value yet, in words. */
export const openColumns = (columns, said) => Object.keys(columns).filter((column) => !(column in said)).map((column) => NAMES[column] ?? column);
