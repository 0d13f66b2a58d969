// Who looks, while a tab is open: a server that interleaves two systems shows a visitor the same list on all its pages
// and logs what is opened.
import { sendJson } from "./dom.js";

const KEY = "goodrate.visitor";

export function visitor() {
  if (!sessionStorage.getItem(KEY)) {
    const bytes = crypto.getRandomValues(new Uint8Array(12)); // randomUUID is missing where the page is not secure
    sessionStorage.setItem(KEY, [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(""));
  }
  return sessionStorage.getItem(KEY);
}

/** Log that a result was opened, where the server has given the search an id. It does not matter when that fails. */
export function logClick(answer, result) {
  if (!answer.query_id) return;
  const queryId = result.query_id ?? answer.query_id; // of the page of the list that it came with
  const object = { object_id: result.item_id, object_id_field: "id" };
  const attributes = { object, position: { ordinal: result.rank } };
  sendJson("ubi/events", { action_name: "click", query_id: queryId, client_id: visitor(), event_attributes: attributes }).catch(() => {});
}
