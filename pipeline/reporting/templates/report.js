// Sorting, hiding columns, deep links and the browser of predictions. Without it the page is whole, but for the browser.
"use strict";

const make = (name, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};

// --- tables: a click on a column's head sorts, boxes hide columns ---

const textOf = cell => {
  const copy = cell.cloneNode(true);
  copy.querySelectorAll("sup, .spread, .flag, .marker").forEach(part => part.remove());
  return copy.textContent.trim();
};
const numberOf = text => {
  const found = text.replace(/[\u2212\u2013]/g, "-").replace(/[\u202f,\s](?=\d{3}\b)/g, "").match(/^[^\d-]*(-?\d+(\.\d+)?(e-?\d+)?)/);
  return found ? parseFloat(found[1]) : NaN;
};

function sortBy(table, place, down) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row, index) => {
    const cell = row.cells[place], text = textOf(cell);
    return { row, index, text, number: cell.classList.contains("number") ? numberOf(text) : NaN };
  });
  const numeric = rows.some(one => !isNaN(one.number));
  rows.sort((one, other) => {
    if (numeric) {
      if (isNaN(one.number) || isNaN(other.number)) return isNaN(one.number) - isNaN(other.number) || one.index - other.index;
      return (down ? other.number - one.number : one.number - other.number) || one.index - other.index;
    }
    const order = one.text.localeCompare(other.text, "en", { numeric: true });
    return (down ? -order : order) || one.index - other.index;
  });
  body.append(...rows.map(one => one.row));
  for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
  table.tHead.rows[0].cells[place].setAttribute("aria-sort", down ? "descending" : "ascending");
}

function sortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = make("button", { type: "button", className: "sort" });
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      // numbers from the largest, words from A; a second click turns it round
      sortBy(table, place, before ? before === "ascending" : head.classList.contains("number"));
    });
    head.append(button);
  });
}

function showColumn(table, place, shown) {
  for (const row of [table.tHead.rows[0], ...[...table.tBodies].flatMap(body => [...body.rows])]) {
    if (row.cells[place]) row.cells[place].hidden = !shown;
  }
}

function columns(table) {
  const heads = [...table.tHead.rows[0].cells];
  const folded = heads.some(head => head.hasAttribute("data-folded"));
  if ((heads.length < 9 && !folded) || table.classList.contains("overview")) return;
  const list = make("ul");
  heads.forEach((head, place) => {
    if (place === 0) return;
    const box = make("input", { type: "checkbox", checked: !head.hasAttribute("data-folded") });
    box.addEventListener("change", () => showColumn(table, place, box.checked));
    const name = head.querySelector(".sr")?.textContent ?? head.textContent;
    list.append(make("li", {}, make("label", {}, box, " ", name.trim())));
    if (!box.checked) showColumn(table, place, false);
  });
  const chooser = make("details", { className: "columns" }, make("summary", { textContent: "Columns" }), list);
  table.closest(".scroll").before(chooser);
}

for (const table of document.querySelectorAll("table.sortable")) {
  if (table.tBodies[0] && table.tBodies[0].rows.length > 1) sortable(table);
  columns(table);
}

// --- deep links: what a link leads to is opened ---

function reveal() {
  let target = null;
  try {
    target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  } catch {
    return; // no valid address
  }
  if (!target) return;
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", reveal);

// --- paper: everything but the browser of predictions is printed ---

addEventListener("beforeprint", () => {
  for (const node of document.querySelectorAll("details.block, details.more")) if (!node.querySelector(".browser")) node.open = true;
});

// --- the contents: closed on a phone; where the reader is, is marked ---

const contents = document.querySelector(".contents details");
if (contents && !matchMedia("(min-width: 80rem)").matches) contents.open = false;
const links = new Map([...document.querySelectorAll(".contents a")].map(a => [a.getAttribute("href").slice(1), a]));
const watcher = new IntersectionObserver(entries => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach(a => a.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-10% 0px -80% 0px" });
document.querySelectorAll("main > section").forEach(section => watcher.observe(section));

// --- the browser of predictions ---
// A sample is [id, speaker, transcript, clip, truth, [what each experiment said]]. Of classes that is four characters a
// condition: the class's letter and the true class's probability in thousandths, "----" where nothing was said. Of scores
// it is a list with a number or null a condition.

const STEP = 20;
const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz";

function unpack(data, said) {
  if (data.task === "regression") return said.map(value => (value === null ? null : { value }));
  return (said.match(/.{4}/g) ?? []).map(part => (part === "----" ? null : { value: DIGITS.indexOf(part[0]), p: parseInt(part.slice(1), 10) / 1000 }));
}

function judge(data, sample, experiments, conditions) {
  const found = [];
  for (const e of experiments) {
    const every = unpack(data, sample[5][e]);
    for (const c of conditions) if (every[c]) found.push(every[c]);
  }
  if (!found.length) return { loss: NaN, disagreement: NaN };
  const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;
  const values = found.map(one => one.value);
  if (data.task === "regression") {
    const middle = mean(values);
    return { loss: mean(values.map(v => Math.abs(v - sample[4]))), disagreement: Math.sqrt(mean(values.map(v => (v - middle) ** 2))) };
  }
  const votes = values.reduce((count, value) => count.set(value, (count.get(value) ?? 0) + 1), new Map());
  return {
    loss: mean(found.map(one => -Math.log(Math.max(one.p, 0.0005)))),
    disagreement: 1 - Math.max(...votes.values()) / values.length,
  };
}

function said(data, sample, one) {
  if (!one) return make("td", { textContent: "–" });
  if (data.task === "regression") {
    const cell = make("td", { className: "number", textContent: one.value.toFixed(2).replace("-", "−") });
    if (data.sentiment && Math.sign(one.value) !== Math.sign(sample[4])) cell.classList.add("miss");
    return cell;
  }
  const right = one.value === sample[4];
  return make("td", { className: right ? "hit" : "miss" }, data.classes[one.value], " ", make("small", { textContent: one.p.toFixed(2) }));
}

function detail(data, sample) {
  const head = make("tr", {}, make("th", { textContent: "experiment", scope: "col" }));
  for (const name of data.conditions) head.append(make("th", { textContent: name, scope: "col" }));
  const body = make("tbody");
  data.experiments.forEach((name, e) => {
    const row = make("tr", {}, make("th", { textContent: name, scope: "row" }));
    unpack(data, sample[5][e]).forEach(one => row.append(said(data, sample, one)));
    body.append(row);
  });
  const caption = data.task === "regression" ? data.sentiment ? "Predicted scores; red: of the other sign." : "Predicted scores." : "Predicted class, and the true class's probability; red: wrong.";
  const table = make("table", {}, make("caption", {}, make("span", { textContent: caption })), make("thead", {}, head), body);
  const box = make("div", { className: "detail" });
  if (sample[3]) {
    const place = decodeURIComponent(sample[3].split("#")[0]);
    const player = make("div");
    const play = make("button", { type: "button", textContent: "Play it here" });
    play.addEventListener("click", () => {
      const video = make("video", { controls: true, src: sample[3] });
      video.addEventListener("error", () => {
        player.replaceChildren(make("p", { className: "empty", role: "alert", textContent: `The clip cannot be played: nothing playable lies at ${place}. The media have moved, the page was copied without them, or this browser does not know their format.` }));
      });
      player.replaceChildren(video);
      video.play().catch(() => {});
    });
    box.append(make("p", { className: "clip" }, make("a", { href: sample[3], textContent: place, target: "_blank", rel: "noopener" }), " ", play), player);
  } else {
    box.append(make("p", { className: "note", textContent: "No clip is known of this sample." }));
  }
  box.append(make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: `Predictions of ${sample[0]}` }, table));
  return box;
}

function browse(box) {
  const data = JSON.parse(document.getElementById(box.dataset.from).textContent);
  const choice = (name, options) => {
    const list = make("select", {}, ...options.map(([value, text]) => make("option", { value, textContent: text })));
    list.addEventListener("change", () => { shown = STEP; draw(); });
    return [make("label", {}, name, " ", list), list];
  };
  const [sortLabel, sort] = choice("Sort by", [["loss", "loss"], ["disagreement", "disagreement"], ["id", "id"]]);
  const [oneLabel, one] = choice("of", [["", "all experiments"], ...data.experiments.map((name, e) => [e, name])]);
  const [underLabel, under] = choice("under", [["", "all conditions"], ...data.conditions.map((name, c) => [c, name])]);
  const words = make("input", { type: "search", placeholder: "words, label, speaker, id" });
  words.addEventListener("input", () => { shown = STEP; draw(); });
  const count = make("p", { className: "note", role: "status" });
  const list = make("ol", { className: "samples" });
  const more = make("button", { type: "button", textContent: "Show more" });
  more.addEventListener("click", () => { shown += STEP; draw(); });
  let shown = STEP;

  function draw() {
    const experiments = one.value === "" ? data.experiments.keys() : [Number(one.value)];
    const conditions = under.value === "" ? data.conditions.keys() : [Number(under.value)];
    const chosen = [[...experiments], [...conditions]];
    const wanted = words.value.trim().toLowerCase();
    const label = sample => (data.task === "regression" ? sample[4].toFixed(2).replace("-", "−") : data.classes[sample[4]]);
    let rows = data.samples.map(sample => ({ sample, ...judge(data, sample, ...chosen) }));
    if (wanted) rows = rows.filter(({ sample }) => [sample[0], sample[1], sample[2], label(sample)].join("\n").toLowerCase().includes(wanted));
    if (sort.value === "id") rows.sort((a, b) => a.sample[0].localeCompare(b.sample[0], "en", { numeric: true }));
    else rows.sort((a, b) => (isNaN(a[sort.value]) - isNaN(b[sort.value])) || b[sort.value] - a[sort.value]);
    count.textContent = `${rows.length} of ${data.samples.length} samples`;
    list.replaceChildren(...rows.slice(0, shown).map(({ sample, loss, disagreement }) => {
      const facts = make("span", { className: "of" }, `${label(sample)}`, sample[1] ? ` · speaker ${sample[1]}` : "", ` · loss ${loss.toFixed(2)} · disagreement ${disagreement.toFixed(2)} · ${sample[0]}`);
      const item = make("details", {}, make("summary", {}, make("q", { textContent: sample[2] || "(no transcript)" }), facts));
      item.addEventListener("toggle", () => { if (item.open && item.children.length < 2) item.append(detail(data, sample)); });
      return make("li", {}, item);
    }));
    more.hidden = rows.length <= shown;
  }

  box.append(make("div", { className: "choices" }, sortLabel, oneLabel, underLabel, make("label", {}, "Find ", words)), count, list, more);
  draw();
}

for (const box of document.querySelectorAll(".browser")) {
  const block = box.closest("details");
  const begin = () => { if (block.open && !box.querySelector(".choices")) browse(box); };
  block.addEventListener("toggle", begin);
  begin();
}

if (location.hash) reveal();
