// What a person sees of an item who is asked about it: a picture and facts, as data and never as HTML.
import { make, money } from "./dom.js";

const PICTURE = 192; // pixels a side that are asked for, for 96 on fine screens

/** Where an item's picture is: an address as the catalogue has it, a path as the server's own /image/. */
export const pictureAddress = (item, size = PICTURE) =>
  /^([a-z][a-z0-9+.-]+:|\/\/)/i.test(item.image) ? item.image : new URL(`image/${encodeURIComponent(item.id)}?size=${size}`, import.meta.url).href;

/** A square that keeps its size while the picture loads, and stays a neutral one where there is none. */
export function picture(item) {
  const frame = make("div", { className: "picture" });
  if (!item.image) return frame;
  const image = make("img", { loading: "lazy", decoding: "async", referrerPolicy: "no-referrer", width: 96, height: 96, alt: item.title ?? "" });
  image.onload = () => frame.classList.add("loaded");
  image.onerror = () => image.remove();
  image.src = pictureAddress(item);
  frame.append(image);
  return frame;
}

const known = (value) => value !== null && value !== undefined && value !== "";

/** Price, rating, brand and category, those that are known. */
export const factsOf = (item) => [
  known(item.price) ? make("span", { className: "price" }, money(item.price, item.currency ?? "")) : null,
  known(item.rating) ? make("span", {}, make("span", { role: "img", "aria-label": "rated" }, "★"), ` ${item.rating.toFixed(1)}`) : null,
  known(item.brand) ? make("span", {}, item.brand) : null,
  known(item.category) ? make("span", {}, item.category) : null,
];
