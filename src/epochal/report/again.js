// Loads the report again once more is in it.
"use strict";

const events = new EventSource(`again${new URL(document.currentScript.src).search}`);

events.addEventListener("changed", () => {
  events.close();
  location.reload();
});
