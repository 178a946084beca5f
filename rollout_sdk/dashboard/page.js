// The page replaces its main part whenever the server says that something has changed. Without this, it is a page all the same.
"use strict";

(() => {
  const main = document.querySelector("main");
  const state = document.querySelector("#live");
  if (!main || !state || !window.EventSource) return;
  let waiting = false;

  // What somebody is writing, or has opened to be confirmed, must not be pulled away; neither must numbers that are being read.
  const isBusy = () => main.querySelector("form :focus, details.hold[open], .operate details[open]") !== null;

  const opened = () => new Set([...main.querySelectorAll("details[open][data-name]")].map((each) => each.dataset.name));

  const refresh = async () => {
    if (waiting) return;
    waiting = true;
    try {
      while (isBusy()) await new Promise((done) => setTimeout(done, 1000));
      const answer = await fetch(location.href, { headers: { "X-Fragment": "1" } });
      if (!answer.ok && answer.status !== 404) throw new Error(String(answer.status));
      const body = await answer.text();
      const open = opened();
      main.innerHTML = body;
      for (const each of main.querySelectorAll("details[data-name]")) each.open = open.has(each.dataset.name);
      state.textContent = "live";
    } catch {
      state.textContent = "no answer from the dashboard";
    } finally {
      waiting = false;
    }
  };

  const source = new EventSource("/events");
  let first = true;
  source.onmessage = () => {
    // The page that has just come is as new as the first message.
    if (first) { first = false; state.textContent = "live"; return; }
    refresh();
  };
  source.onerror = () => { state.textContent = "connection lost, trying again"; first = false; };
})();
