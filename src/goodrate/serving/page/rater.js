// Who rates: a name that this browser remembers and every vote, grade and overrule carries.
import { make } from "./dom.js";

const KEY = "goodrate.rater";

export const raterName = () => localStorage.getItem(KEY) ?? "";
export const rememberRater = (name) => localStorage.setItem(KEY, name);

/** A form that asks for the name, or says it with a way to change it. changed(name): called when another one is given. */
export function attachRater(place, changed) {
  const show = (asking) => place.replaceChildren(asking ? form() : line());
  const line = () => {
    const change = make("button", { type: "button", className: "plain", onclick: () => { show(true); place.querySelector("input").focus(); } }, "Change");
    return make("p", { className: "rater" }, "You are ", make("b", {}, raterName()), change);
  };
  const form = () => {
    const input = make("input", { type: "text", name: "rater", required: true, maxLength: 100, value: raterName(), autocomplete: "name" });
    const asked = make("form", { className: "rater" }, make("label", {}, "Your name ", input), make("button", { className: "small", type: "submit" }, "Go on"));
    asked.onsubmit = (event) => {
      event.preventDefault();
      const name = input.value.trim();
      if (!name) return;
      rememberRater(name);
      show(false);
      changed(name);
    };
    return asked;
  };
  show(!raterName());
}
