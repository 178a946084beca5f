// The page replaces its main part whenever the server says that something has changed. Without this, it is a page all the same.
"use strict";

(() => {
  const main = document.querySelector("main");
  const state = document.querySelector("#live");
  const version = document.querySelector("meta[name=version]");
  const events = document.querySelector("meta[name=events]");
  if (!main || !state || !version || !events || !window.EventSource) return;
  let shown = version.content;
  let newest = shown;
  let isRefreshing = false;

  const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

  // A form in use, an open confirmation, and numbers that are being read must not be replaced.
  const isBusy = () => main.querySelector("form :focus, details.hold[open], .operate details[open]") !== null;

  const opened = () => new Set([...main.querySelectorAll("details[open][data-name]")].map((each) => each.dataset.name));

  const refresh = async () => {
    while (isBusy()) await pause(1);
    const wanted = newest;
    const answer = await fetch(location.href, { headers: { "X-Fragment": "1" } });
    if (!answer.ok && answer.status !== 404) throw new Error(String(answer.status));
    const body = await answer.text();
    const open = opened();
    main.innerHTML = body;
    for (const each of main.querySelectorAll("details[data-name]")) each.open = open.has(each.dataset.name);
    shown = wanted;
  };

  // A change that is announced during a refresh needs one more round: the pending answer may be older.
  const follow = async () => {
    if (isRefreshing) return;
    isRefreshing = true;
    while (shown !== newest) {
      try {
        await refresh();
        state.textContent = "live";
      } catch {
        state.textContent = "no answer from the dashboard";
        await pause(2);
      }
    }
    isRefreshing = false;
  };

  const source = new EventSource(events.content);
  source.onmessage = (message) => {
    newest = message.data;
    if (!isRefreshing) state.textContent = "live";
    follow();
  };
  source.onerror = () => { state.textContent = "connection lost, trying again"; };
})();
