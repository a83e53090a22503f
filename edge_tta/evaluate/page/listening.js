const sheet = document.getElementById("sheet");
const test = sheet.dataset.test;
const listener = document.getElementById("listener");
const trials = document.querySelectorAll(".trial").length;
const memory = `edge-tta-listening-${test}`;

const answers = () => [...sheet.querySelectorAll("input[type=radio]:checked")].map((choice) => (
  { trial: Number(choice.name.slice("trial-".length)), answer: choice.value }
));

const show = (words) => {
  document.getElementById("progress").textContent = words;
};

// Browsers may refuse storage to pages from a file; the answers then last as long as the page is open.
const remember = () => {
  try {
    localStorage.setItem(memory, JSON.stringify({ listener: listener.value, answers: answers() }));
  } catch { /* nothing is lost that was promised */ }
};

try {
  const kept = JSON.parse(localStorage.getItem(memory) ?? "null");
  if (kept) {
    listener.value = kept.listener;
    for (const { trial, answer } of kept.answers) {
      sheet.querySelector(`input[name="trial-${trial}"][value="${answer}"]`).checked = true;
    }
  }
} catch { /* start afresh */ }

const count = () => show(`${answers().length} of ${trials} answered`);
sheet.addEventListener("change", () => { remember(); count(); });
sheet.addEventListener("submit", (event) => event.preventDefault());
count();

document.getElementById("save").addEventListener("click", () => {
  const found = { schema: "listening-answers/1", test, listener: listener.value.trim(), answers: answers() };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(found, null, 1)], { type: "application/json" }));
  link.download = `answers-${test}.json`;
  link.click();
  URL.revokeObjectURL(link.href);
  const open = trials - found.answers.length;
  show(open ? `Saved. ${open} without an answer are left out.` : "Saved. Thank you.");
});
