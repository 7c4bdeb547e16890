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

  // What comes into a component, the newest first.
  const form = document.getElementById("tail");
  if (form) tail(form.elements, form.dataset.source, document.getElementById("seen"), document.getElementById("items"));
  function tail({ share, part, pause, clear }, source, seen, items) {
    const shownMax = 500;
    document.querySelector("main").dataset.grown = "yes";
    form.addEventListener("submit", (event) => event.preventDefault());
    let stream, count, leftOut, paused = false;
    const tell = (more = "") => { seen.textContent = `${count} came in${leftOut ? `, ${leftOut} were too fast to be shown` : ""}${paused ? ", paused" : ""}${more}`; };
    const matches = (row) => row.textContent.includes(part.value);
    function open() {
      stream?.close();
      count = leftOut = 0;
      tell();
      stream = new EventSource(`${source}?sampleProb=${share.value}`);
      stream.addEventListener("item", ({ data }) => {
        count += 1;
        if (paused) return;
        const { time_ms, labels, text } = JSON.parse(data);
        const row = document.createElement("li");
        const head = document.createElement("span");
        head.className = "faint";
        head.textContent = `${time_ms === undefined ? "" : `${new Date(time_ms).toISOString()}  `}${labels}\n`;
        row.append(head, text);
        row.hidden = !matches(row);
        items.prepend(row);
        if (items.children.length > shownMax) items.lastChild.remove();
      });
      stream.addEventListener("left_out", ({ data }) => { leftOut = JSON.parse(data).items; });
      stream.addEventListener("end", ({ data }) => { stream.close(); tell(`; it is over: ${JSON.parse(data).reason}`); });
      stream.addEventListener("error", async () => {
        if (stream.readyState !== EventSource.CLOSED) return;
        // Refused: the answer says why.
        const answer = await fetch(source, { signal: AbortSignal.timeout(2000) }).catch(() => null);
        tell(answer && !answer.ok ? `; it is over: ${await answer.text()}` : "; it is over; load the page again");
      });
    }
    setInterval(() => { if (stream.readyState === EventSource.OPEN) tell(); }, 500);
    share.addEventListener("change", open);
    part.addEventListener("input", () => { for (const row of items.children) row.hidden = !matches(row); });
    clear.addEventListener("click", () => items.replaceChildren());
    pause.addEventListener("click", () => { paused = !paused; pause.textContent = paused ? "Go on" : "Pause"; tell(); });
    open();
  }
})();
