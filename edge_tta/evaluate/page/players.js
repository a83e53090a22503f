"use strict";

// One sound at a time: whoever starts silences the others.
document.addEventListener("play", (event) => {
  for (const player of document.querySelectorAll("audio")) {
    if (player !== event.target) player.pause();
  }
}, true);

// From one sound of a pair to the other, at the same moment.
for (const button of document.querySelectorAll("button.switch")) {
  button.addEventListener("click", () => {
    const [first, second] = button.closest(".pair").querySelectorAll("audio");
    const [from, to] = second.paused ? [first, second] : [second, first];
    to.currentTime = from.ended ? 0 : from.currentTime;
    to.play();
  });
}
