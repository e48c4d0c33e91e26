// What reading does not need: live refresh that waits while it would disturb, keys, selection, theme.
const main = () => document.getElementById("live");
const root = document.body.dataset.root;
let isLive = true;
let waited = 0; // seconds since the last refresh

// Somebody is at something here: what he sees must not move under his hands.
function isBusy() {
  const focused = document.activeElement;
  return document.hidden
    || document.querySelector("main input[type=checkbox]:checked, main details[open]:not([data-open])") !== null
    || (focused !== null && focused.matches("main input, main select, main textarea, main button"))
    || String(getSelection()).length > 0;
}

function refresh() {
  waited = 0;
  if (main().hasAttribute("data-live")) htmx.trigger(main(), "refresh");
}

function showLive() {
  const button = document.getElementById("live-switch");
  const waits = isLive && isBusy();
  button.hidden = !main().hasAttribute("data-live");
  button.dataset.mode = !isLive ? "off" : waits ? "waits" : "on";
  button.querySelector(".word").textContent = !isLive ? "paused" : waits ? "waiting" : "live";
  button.setAttribute("aria-pressed", String(isLive));
}

setInterval(() => {
  waited += 1;
  if (isLive && waited >= Number(main().dataset.live) && !isBusy()) refresh();
}, 1000);
setInterval(showLive, 500);
showLive();

document.getElementById("live-switch").addEventListener("click", () => { isLive = !isLive; showLive(); });

// The clock goes on from the database's time.
const clock = document.querySelector("header time.now");
const ahead = new Date(clock.dateTime) - Date.now();
setInterval(() => {
  clock.textContent = new Date(Date.now() + ahead).toISOString().slice(11, 19) + " UTC";
}, 1000);

function turnTheme() {
  const order = ["", "light", "dark"];
  const next = order[(order.indexOf(document.documentElement.dataset.theme ?? "") + 1) % 3];
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  try { localStorage.setItem("sched-theme", next); } catch { /* for this page alone, then */ }
}
document.getElementById("theme-switch").addEventListener("click", turnTheme);

document.addEventListener("change", event => {
  if (event.target.id === "pick-all") {
    for (const box of document.querySelectorAll("td.pick input")) box.checked = event.target.checked;
  }
  const count = document.querySelectorAll("td.pick input:checked").length;
  const words = document.getElementById("picked");
  if (words) words.textContent = count ? `${count} selected` : "";
});

document.addEventListener("click", event => {
  const copied = event.target.closest("[data-copy]");
  if (copied) copy(copied.dataset.copy).then(() => { copied.textContent = "copied"; });
});

// Without HTTPS there is no clipboard for scripts: the old way works everywhere.
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

// Where there is more than fits, what matters is shown first: the page one is on, and the present.
function bringInto(box, element, share) {
  if (!box || !element || box.scrollWidth <= box.clientWidth) return;
  const [outer, inner] = [box, element].map(each => each.getBoundingClientRect());
  box.scrollLeft += inner.left + inner.width / 2 - outer.left - outer.width * share;
}
bringInto(document.querySelector(".bar nav"), document.querySelector(".bar nav [aria-current]"), 0.5);
bringInto(document.querySelector(".timeline .scroll"), document.querySelector(".timeline line.now"), 0.7);

// One letter for each page; / for the search.
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (event.key === "/") {
    const search = document.querySelector("input[type=search]");
    if (search) { event.preventDefault(); search.focus(); search.select(); }
  } else if (event.key === "r") refresh();
  else if (event.key === "d") turnTheme();
  else {
    const link = [...document.querySelectorAll("header a[data-key]")].find(each => each.dataset.key === event.key);
    if (link) link.click();
  }
});
