// The line of links to the pages of the workbench, in every page.
import { byId, fetchJson, make } from "./dom.js";

/** Fill #pages. root: the address of the search page from here. here: the path of this page, "" for the search. */
export async function showPages(root = "./", here = "") {
  const place = byId("pages");
  const { pages } = await fetchJson(`${root}pages`, {}).catch(() => ({ pages: [] }));
  if (!pages.length) return;
  const links = [{ path: "", title: "Search" }, ...pages].map(({ path, title }) => {
    const link = make("a", { href: `${root}${path}` }, title);
    if (path === here) link.setAttribute("aria-current", "page");
    return link;
  });
  place.replaceChildren(...links);
  place.hidden = false;
}
