// The line of links to the pages of the workbench, in every page.
import { byId, fetchJson, make } from "./dom.js";

let known = null; // one request a page

/** The pages of the workbench, none where the server has none. root: the address of the search page from here. */
const pagesOf = (root) => (known ??= fetchJson(`${root}pages`, {}).then(({ pages }) => pages).catch(() => []));

/** Whether the workbench has a page of that path. */
export const hasPage = async (path, root = "./") => (await pagesOf(root)).some((page) => page.path === path);

/** Fill #pages. root: the address of the search page from here. here: the path of this page, "" for the search. */
export async function showPages(root = "./", here = "") {
  const place = byId("pages");
  const pages = await pagesOf(root);
  if (!pages.length) return;
  const links = [{ path: "", title: "Search" }, ...pages].map(({ path, title }) => {
    const link = make("a", { href: `${root}${path}` }, title);
    if (path === here) link.setAttribute("aria-current", "page");
    return link;
  });
  place.replaceChildren(...links);
  place.hidden = false;
}
