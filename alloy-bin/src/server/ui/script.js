// Keeps a page up to date: the server says when something has changed, and the page's main part is fetched again.
"use strict";
(() => {
  const live = document.getElementById("live");
  let busy = false;
  let wanted = false;
  const say = (text) => { if (live && live.textContent !== text) live.textContent = text; };
  async function refresh() {
    const main = document.querySelector("main");
    // What somebody types or reads far below stays as it is.
    if (main.contains(document.activeElement) && document.activeElement.matches("input, select")) return;
    if (main.dataset.grown || document.hidden) { wanted = document.hidden; return; }
    if (busy) { wanted = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      main.replaceChildren(...page.querySelector("main").childNodes);
      say("live");
      follow();
    } catch { say("the agent does not answer"); }
    busy = false;
    if (wanted) { wanted = false; refresh(); }
  }
  const events = new EventSource("/api/v0/events");
  events.addEventListener("change", refresh);
  events.addEventListener("open", () => { say("live"); refresh(); });
  events.addEventListener("error", () => say("the agent does not answer"));
  setInterval(refresh, 5000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && wanted) { wanted = false; refresh(); } });

  // Long lists go on when their end comes into sight.
  function follow() {
    const more = document.getElementById("more");
    if (!more) return;
    new IntersectionObserver(async (entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      try {
        const answer = await fetch(more.href, { headers: { accept: "text/html" } });
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        document.querySelector("main").dataset.grown = "yes";
        document.querySelector("tbody").append(...page.querySelectorAll("tbody tr"));
        const next = page.getElementById("more");
        if (next) { more.href = next.href; more.textContent = next.textContent; follow(); } else { more.remove(); }
      } catch { /* The link is still there. */ }
    }, { rootMargin: "600px" }).observe(more);
  }
  follow();
})();
