"use strict";
// Asks the run how far it is, seldom, since what the browser takes is taken from what is measured. Hidden pages ask nothing.
(() => {
  const EVERY = 5000, VERSION = Number(document.getElementById("running").dataset.version);
  const at = (name) => document.getElementById(`running-${name}`);
  async function ask() {
    if (document.hidden) return again();
    let state;
    try {
      const answer = await fetch("state.json", { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      state = await answer.json();
    } catch (error) {
      at("state").textContent = "The run has ended, or was interrupted.";
      at("count").textContent = "What it had measured is on disk; the terminal names the file.";
      at("bar").hidden = true;
      return;
    }
    if (state.version !== VERSION) { location.reload(); return; } // what is chosen is in the address, and stays
    at("state").textContent = state.state;
    at("count").textContent = state.count;
    at("latest").textContent = state.latest;
    if (state.total) at("bar").max = state.total;
    at("bar").value = state.done;
    again();
  }
  const again = () => setTimeout(ask, EVERY);
  again();
})();
