// The line of links to the pages of the workbench, in every page.
import { byId, fetchJson, make } from "./dom.js";

let known = null; // one request a page

/** What pages the server has. root: the address of the search page from here. */
const pagesOf = (root) => (known ??= fetchJson(`${root}pages`, {}).catch(() => ({ search: true, pages: [] })));

/** Whether the workbench has a page of that path. */
export const hasPage = async (path, root = "./") => (await pagesOf(root)).pages.some((page) => page.path === path);

/** Fill #pages. root: the address of the search page from here. here: the path of this page, "" for the search. */
export async function showPages(root = "./", here = "") {
  const place = byId("pages");
  const { search, pages } = await pagesOf(root);
  const all = [...(search ? [{ path: "", title: "Search" }] : []), ...pages];
  if (all.length < 2) return;
  const links = all.map(({ path, title }) => {
    const link = make("a", { href: `${root}${path}` }, title);
    if (path === here) link.setAttribute("aria-current", "page");
    return link;
  });
  place.replaceChildren(...links);
  place.hidden = false;
}
