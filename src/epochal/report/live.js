// Puts in what the server sends of a run that trains, and shows the report once there is one.
"use strict";

const events = new EventSource("events");
const lost = document.getElementById("lost");

events.addEventListener("open", () => { lost.hidden = true; });
events.addEventListener("error", () => { lost.hidden = false; });

events.addEventListener("changed", (event) => {
  const { title, pieces } = JSON.parse(event.data);
  document.title = title;
  for (const [name, html] of Object.entries(pieces)) {
    const place = document.getElementById(name);
    // What somebody has opened stays open.
    const isOpen = [...place.querySelectorAll("details")].map((one) => one.open);
    place.innerHTML = html;
    place.querySelectorAll("details").forEach((one, number) => { one.open = isOpen[number] ?? false; });
  }
});

events.addEventListener("finished", () => {
  events.close();
  location.reload();
});
