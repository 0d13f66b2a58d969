// Entries of the browser's history, each with how far its page was scrolled, also after a reload.

const fresh = () => `${Date.now()} ${Math.random()}`;
let entry = history.state?.entry ?? fresh();

function kept(name, value) {
  try {
    if (value === undefined) return sessionStorage.getItem(name);
    sessionStorage.setItem(name, value);
  } catch {
    // a browser that keeps nothing for this site: the page then begins at its top
  }
  return null;
}

const keepScroll = () => kept(`scroll ${entry}`, String(Math.round(scrollY)));
export const keptScroll = () => Number(kept(`scroll ${entry}`) ?? 0);

/** A new entry, or the same one for the address that is there already. */
export function push(address) {
  if (new URL(address, location.href).href === location.href) return;
  keepScroll();
  entry = fresh();
  history.pushState({ entry }, "", address);
}

export const replace = (address) => history.replaceState({ entry }, "", address);

/** Call back when somebody goes back or forward. */
export function attachHistory(back) {
  history.scrollRestoration = "manual";
  replace(location.href);
  addEventListener("pagehide", keepScroll);
  addEventListener("popstate", (event) => {
    keepScroll(); // of the page that is left: the browser has not moved yet
    entry = event.state?.entry ?? fresh();
    back();
  });
}
