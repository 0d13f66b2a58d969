// An item's clip, an animated picture: it moves only while a person wants it to.
import { make } from "./dom.js";

/** A button that plays the clip of a result and stops it. */
export function clip(result) {
  const frame = make("div", { className: "clip" });
  const button = make("button", { type: "button", className: "plain" }, "Play the clip");
  button.onclick = () => {
    const plays = frame.firstChild !== null;
    button.textContent = plays ? "Play the clip" : "Stop the clip";
    if (plays) frame.replaceChildren();
    else frame.append(player(result, frame));
  };
  return make("div", {}, button, frame);
}

function player({ item_id: id, item }, frame) {
  const image = make("img", { decoding: "async", width: 256, height: 256, alt: `${item.title ?? ""}, turning` });
  image.onerror = () => frame.replaceChildren(make("p", { role: "status" }, "This clip cannot be shown."));
  image.src = new URL(`clip/${encodeURIComponent(id)}`, import.meta.url).href;
  return image;
}
