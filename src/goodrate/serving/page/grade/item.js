// The item of a pair: picture, title, facts, attributes, description.
import { make, money } from "../dom.js";
import { pictureAddress } from "../items.js";

const LARGE = 768; // pixels a side: a grader looks at one item

export function itemCard(pair) {
  const { item } = pair;
  if (!item) return make("div", { className: "card item" }, make("h3", {}, pair.title || pair.item_id), make("p", { className: "warning" }, "The index has this item no more."));
  const facts = [
    item.price === null ? null : make("b", {}, money(item.price, item.currency)),
    item.brand ? make("span", {}, item.brand) : null,
    item.category ? make("span", {}, item.category) : null,
  ];
  const about = make("div", {}, make("h3", {}, item.title || item.id), make("div", { className: "what" }, ...facts));
  const card = make("div", { className: "card item" }, picture(item), about, attributesOf(item), item.description ? make("p", { className: "described whole", tabIndex: 0, role: "group", "aria-label": "Description" }, item.description) : null);
  if (item.image) card.classList.add("pictured");
  return card;
}

function picture(item) {
  if (!item.image) return null;
  const image = make("img", { decoding: "async", referrerPolicy: "no-referrer", alt: item.title });
  image.onerror = () => image.remove();
  image.src = pictureAddress(item, LARGE);
  return make("div", { className: "shot" }, image);
}

function attributesOf(item) {
  const pairs = Object.entries(item.attributes ?? {});
  if (!pairs.length) return null;
  return make("dl", { className: "terms whole" }, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, [value].flat().join(", "))]));
}
