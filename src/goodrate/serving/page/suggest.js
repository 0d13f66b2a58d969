// Suggestions while somebody types, as a list that arrow keys and the mouse go through.
import { fetchJson, make } from "./dom.js";

/** input: a combobox. list: its listbox. pick(text): a suggestion was chosen. */
export function attachSuggestions(input, list, pick) {
  let running = null;
  let at = -1;

  const options = () => [...list.children];
  const close = () => {
    running?.abort();
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    mark(-1);
  };
  const mark = (next) => {
    at = next;
    options().forEach((option, index) => option.setAttribute("aria-selected", String(index === at)));
    if (at < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", options()[at].id);
  };
  const choose = (text) => { close(); input.value = text; pick(text); };

  async function ask() {
    running?.abort();
    const mine = (running = new AbortController());
    if (!input.value.trim()) return close();
    try {
      const answer = await fetchJson("suggest", { query: input.value, k: 8 }, mine.signal);
      if (mine.signal.aborted || document.activeElement !== input) return;
      list.replaceChildren(...answer.suggestions.map(optionOf));
      list.hidden = !answer.suggestions.length;
      input.setAttribute("aria-expanded", String(!list.hidden));
      mark(-1);
    } catch {
      if (!mine.signal.aborted) close(); // typing goes on without suggestions
    }
  }

  function optionOf(one, index) {
    const count = one.results ? make("span", { className: "count" }, one.results.toLocaleString()) : null;
    const option = make("li", { id: `suggestion-${index}`, role: "option", "aria-selected": "false" }, make("span", {}, one.text), count);
    option.onmousedown = (event) => { event.preventDefault(); choose(one.text); };
    option.dataset.text = one.text;
    return option;
  }

  function onKey(event) {
    if (list.hidden) return;
    const count = options().length;
    if (event.key === "ArrowDown") mark(at + 1 < count ? at + 1 : -1);
    else if (event.key === "ArrowUp") mark(at >= 0 ? at - 1 : count - 1);
    else if (event.key === "Enter" && at >= 0) choose(options()[at].dataset.text);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  input.addEventListener("input", ask);
  input.addEventListener("keydown", onKey);
  input.addEventListener("blur", close);
  input.form.addEventListener("submit", close);
}
