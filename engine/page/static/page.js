// Shows what the run tells: everything at first, then figures after each look, at last the end.

import { Charts } from "./charts.js";
import { brief, bytes, count, make, rate, seconds, share } from "./format.js";
import { Graph } from "./graph.js";

const byId = (id) => document.getElementById(id);
const graph = new Graph(byId("graph"));
const charts = new Charts();
let last = null;
let lost = false;

const told = new EventSource("events");
told.addEventListener("hello", (event) => {
  const data = JSON.parse(event.data);
  graph.laidOut = 0;
  graph.draw(data.drawing);
  charts.begin(data.points);
  lost = false;
  show(data);
});
told.addEventListener("figures", (event) => show(JSON.parse(event.data)));
told.addEventListener("end", () => {
  told.close();
  document.body.dataset.over = "true";
});
told.onerror = () => {
  if (document.body.dataset.over) return;
  lost = true;
  if (last) showState(last);
  else byId("state").textContent = "not reached";
};

function show({ figures, point }) {
  last = figures;
  lost = false;
  charts.add(point);
  graph.show(figures);
  showState(figures);
  showProgress(figures);
  showTiles(figures);
  showHead(figures);
  showWorkers(figures);
  showLetters(figures);
  showReport(figures);
}

function stateOf(f) {
  if (f.ended_by) return f.ended_by === "error" ? ["failed", "failed"] : ["ended", `ended by ${f.ended_by}`];
  if (lost) return ["stalled", "not reached"];
  if (!f.healthy) return ["stalled", "stalled"];
  return f.ready ? ["running", "running"] : ["starting", "starting"];
}

function showState(f) {
  const [kind, text] = stateOf(f);
  byId("state").className = `state ${kind}`;
  byId("state").textContent = text;
  byId("graph-name").textContent = f.graph;
  document.title = `${f.graph} – ${text}`;
  byId("meta").textContent = `${seconds(f.wall_s)} · ${f.runner} on ${f.host}`;
  byId("about").textContent = `sluiceway ${f.version}`;
  const notice = byId("notice");
  const says = f.error ? `${f.error.type}: ${f.error.text}`
    : f.ended_by ? "" : lost ? "The run is not reached: its process has ended, or the connection is lost. These are the last figures."
    : f.healthy ? f.placement : f.why;
  notice.className = `notice ${f.error || (lost && !f.ended_by) ? "bad" : f.healthy || f.ended_by ? "" : "warn"}`;
  notice.textContent = says;
  notice.hidden = !says;
}

function showProgress(f) {
  const { expected, released } = f.totals;
  byId("progress").hidden = !expected;
  if (!expected) return;
  const done = Math.min(1, released / expected);
  byId("bar").style.width = `${100 * done}%`;
  byId("eta").textContent = `${share(done)} of ${brief(expected)}` + (f.eta_s && !f.ended_by ? ` · ${seconds(f.eta_s)} left` : "");
}

function tile(name, value, more = "", { bad = false, meter = null } = {}) {
  const made = make("div", bad ? "tile bad" : "tile");
  made.dataset.name = name;
  made.append(make("div", "name", name), make("div", "value", value), make("div", "more", more));
  if (meter !== null) {
    const inside = make("i");
    inside.style.width = `${Math.min(100, 100 * meter)}%`;
    const bar = make("div", "meter");
    bar.append(inside);
    made.append(bar);
  }
  return made;
}

function showTiles(f) {
  const t = f.totals;
  const over = Boolean(f.ended_by);
  const mean = f.wall_s ? t.events_in / f.wall_s : 0;
  const made = [
    tile("read", count(t.events_in), rate(over ? mean : f.read_rate)),
    tile("out", count(t.events_out), over ? "" : rate(f.out_rate)),
    tile("released", count(t.released), t.filtered ? `${brief(t.filtered)} filtered` : ""),
  ];
  if (f.limit_bytes && !over) {
    made.push(tile("in flight", brief(f.in_flight), `of ${brief(f.limit_numbers)} numbers`, { meter: f.in_flight / f.limit_numbers }));
    made.push(tile("bytes", bytes(f.nbytes), `of ${bytes(f.limit_bytes)}`, { meter: f.nbytes / f.limit_bytes }));
    made.push(tile("held by order", brief(f.held), `at most ${brief(f.order.held_most)}`));
  } else {
    made.push(tile("held by order", seconds(f.order.waited_s), `at most ${brief(f.order.held_most)} at once`));
    made.push(tile("peak bytes", bytes(t.peak_bytes)));
  }
  if (f.committed !== null) made.push(tile("committed below", count(f.committed)));
  made.push(tile("dead letters", count(t.dead_letters), t.skipped ? `${brief(t.skipped)} skipped` : "", { bad: t.dead_letters > 0 }));
  if (t.retries) made.push(tile("retries", count(t.retries)));
  if (t.worker_deaths) made.push(tile("worker deaths", count(t.worker_deaths), `${brief(t.replayed)} replayed`, { bad: true }));
  byId("tiles").replaceChildren(...made);
}

function showHead(f) {
  const head = f.head;
  let says = f.ended_by ? "The run is over: nothing is in flight." : "Nothing is in flight.";
  if (head) {
    const where = head.answered ? "is released and waits for a sink or the consumer"
      : head.worker ? `is with worker ${head.worker}${head.node ? ` in node ${head.node}` : ""}${head.pid ? `, process ${head.pid}` : ""}`
      : "waits for a worker, or is handled in the calling process";
    says = `Number ${count(head.number)} ${where}, ${head.since_s < 1 ? "since less than a second" : `for ${seconds(head.since_s)}`}.`;
  }
  byId("head").textContent = says;
  byId("order").textContent = f.order.head && f.order.waited_s > 0.005
    ? `So far results waited ${seconds(f.order.waited_s)} for an earlier one, mostly for ${f.order.head}.` : "";
  if (f.bottleneck) {
    const node = f.nodes[f.bottleneck];
    byId("order").append(` ${f.bottleneck} bounds the run: ${share(node.busy)} busy with ${node.workers} ${node.workers > 1 ? "workers" : "worker"}.`);
  }
}

function fill(id, rows) {
  const body = byId(id).querySelector("tbody");
  body.replaceChildren(...rows);
  byId(id).parentElement.hidden = rows.length === 0;
}

function cells(values, className = "") {
  const made = make("tr", className);
  for (const value of values) made.append(value instanceof Node ? value : make("td", typeof value === "string" ? "" : "n", typeof value === "string" ? value : value[0]));
  return made;
}

const DOING = { starts: "starts", waits: "waits for work", packs: "packs events", batch: "handles a batch", event: "handles an event", several: "handles several", closes: "closes", elsewhere: "on another machine" };

function showWorkers(f) {
  byId("worker-note").textContent = f.workers.length ? `${f.workers.length}` : "";
  fill("workers", f.workers.map((w) => cells([
    w.name, w.pool, [w.pid ? String(w.pid) : "–"], [bytes(w.memory)], DOING[w.doing] ?? w.doing, w.node ?? "–", [count(w.number)],
    [w.doing === "elsewhere" ? "–" : seconds(w.for_s)], [brief(w.numbers)], [`#${w.life}`],
  ], w.head ? "is-head" : "")));
  byId("no-workers").hidden = f.workers.length > 0;
  byId("no-workers").textContent = f.ended_by ? "All worker processes are gone." : f.ready || f.runner === "inline"
    ? "No worker processes: events are handled in the calling process." : "No worker processes yet.";
}

function showLetters(f) {
  const shown = f.letters;
  byId("letter-note").textContent = f.totals.dead_letters > shown.length ? `the last ${shown.length} of ${count(f.totals.dead_letters)}` : shown.length ? `${shown.length}` : "";
  byId("no-letters").hidden = shown.length > 0;
  fill("letters", shown.map((letter) => {
    const error = make("td", "wide", letter.error);
    if (letter.event) error.append(make("span", "event", letter.event));
    return cells([[letter.index ? `${count(letter.number)} (${letter.index})` : count(letter.number)], letter.node, error, [String(letter.attempts)], letter.at.slice(11, 19)]);
  }));
}

function showReport(f) {
  fill("report", Object.entries(f.nodes).map(([name, node]) => cells([
    name, [String(node.workers)], [count(node.events_in)], [count(node.events_out)], [brief(node.service_rate)], [share(node.busy)],
    [seconds(node.p50_s)], [seconds(node.p99_s)],
  ], name === f.bottleneck ? "is-head" : "")));
  const totals = Object.entries(f.totals).filter(([name, value]) => value && name !== "peak_bytes").map(([name, value]) => {
    const made = make("div");
    made.append(make("dt", "", name.replaceAll("_", " ")), make("dd", "", count(value)));
    made.dataset.total = name;
    return made;
  });
  byId("totals").replaceChildren(...totals);
  byId("traceback").hidden = !f.error?.traceback;
  byId("traceback").textContent = f.error?.traceback ?? "";
}
