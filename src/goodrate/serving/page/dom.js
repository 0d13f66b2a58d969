// What every part of the page uses: elements, requests, numbers. Texts go in through textContent, never as HTML.

export const byId = (id) => document.getElementById(id);

/** An element with properties (those with a dash, and role, are attributes) and children; children of null are left out. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The JSON of an address. Throws an Error whose message a person can read. */
export const fetchJson = (path, parameters, signal) => answerOf(`${path}?${new URLSearchParams(parameters)}`, { signal });

/** The JSON that answers a body sent as JSON. Throws as fetchJson does. */
export const sendJson = (path, body, method = "POST") =>
  answerOf(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

async function answerOf(address, request) {
  let response;
  try {
    response = await fetch(address, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is goodrate serve still running?");
  }
  const body = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return {};
  });
  if (!response.ok) throw new Error(body.message || `The server answered ${response.status}.`);
  return body;
}

export const percent = (share) => `${Math.round(100 * share)}%`;
export const counted = (count, noun) => `${count.toLocaleString()} ${noun}${count === 1 ? "" : "s"}`;

const formats = new Map();

/** A price as the reader's language writes it. currency: an ISO code, "" or anything else = a plain number. */
export function money(value, currency = "", short = false) {
  const key = `${currency} ${short}`;
  if (!formats.has(key)) {
    const digits = short ? { maximumFractionDigits: 2, trailingZeroDisplay: "stripIfInteger" } : {};
    const plain = { minimumFractionDigits: short ? 0 : 2, maximumFractionDigits: 2 };
    const isCode = /^[A-Za-z]{3}$/.test(currency);
    formats.set(key, new Intl.NumberFormat(undefined, isCode ? { style: "currency", currency, ...digits } : plain));
  }
  return formats.get(key).format(value);
}
