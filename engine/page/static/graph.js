// The graph as the plan draws it: a box for each node, in the layer that the plan gives it, with live figures.

import { brief, make, rate, seconds, share } from "./format.js";

const WIDTH = 176, GAP = 46, ROW_GAP = 16, NARROW = 640;
const HEIGHTS = { node: 122, engine: 74, source: 56, sink: 56 };
const SVG = "http://www.w3.org/2000/svg";

export class Graph {
  constructor(place) {
    this.place = place;
    this.boxes = new Map();
    new ResizeObserver(() => this.layOut()).observe(place.parentElement);
  }

  draw(drawing) {
    this.drawing = drawing;
    this.sources = drawing.boxes.filter((box) => box.kind === "source").length;
    this.place.replaceChildren();
    this.svg = document.createElementNS(SVG, "svg");
    this.place.append(this.svg);
    this.boxes.clear();
    for (const box of drawing.boxes) {
      const shown = make("div", `box ${box.kind}`);
      shown.append(make("div", "fill"), make("div", "name", box.name), make("div", "rows"));
      shown.title = box.name;
      this.place.append(shown);
      this.boxes.set(box.id, shown);
    }
    this.layOut();
  }

  // Layers are columns where there is room, rows on a phone.
  layOut() {
    if (!this.drawing) return;
    const wide = this.place.clientWidth;
    if (!wide || wide === this.laidOut) return;
    this.laidOut = wide;
    const down = wide < NARROW;
    const layers = [];
    for (const box of this.drawing.boxes) (layers[box.layer] ??= []).push(box);
    const places = down ? this.placeRows(layers, wide) : this.placeColumns(layers, wide);
    let right = 0, bottom = 0;
    for (const [id, p] of places) {
      const style = this.boxes.get(id).style;
      Object.assign(style, { left: `${p.x}px`, top: `${p.y}px`, width: `${p.w}px`, height: `${p.h}px` });
      right = Math.max(right, p.x + p.w);
      bottom = Math.max(bottom, p.y + p.h);
    }
    this.place.style.height = `${bottom + 6}px`;
    this.svg.setAttribute("width", right + 2);
    this.svg.setAttribute("height", bottom + 2);
    this.svg.replaceChildren(...this.drawing.arrows.flatMap((arrow) => line(arrow, places, down)));
  }

  placeColumns(layers, wide) {
    const gap = layers.length > 1 ? GAP : 0;
    const width = Math.max(132, Math.min(WIDTH, (wide - 2 - gap * (layers.length - 1)) / layers.length));
    const step = Math.max(width + GAP, Math.min(width + 110, (wide - 2 - width) / Math.max(1, layers.length - 1)));
    const heights = layers.map((boxes) => boxes.reduce((sum, box) => sum + HEIGHTS[box.kind] + ROW_GAP, -ROW_GAP));
    const tallest = Math.max(...heights);
    const places = new Map();
    layers.forEach((boxes, at) => {
      let y = (tallest - heights[at]) / 2 + 1;
      for (const box of bySlot(boxes)) {
        places.set(box.id, { x: at * step + 1, y, w: width, h: HEIGHTS[box.kind] });
        y += HEIGHTS[box.kind] + ROW_GAP;
      }
    });
    return places;
  }

  placeRows(layers, wide) {
    const places = new Map();
    let y = 1;
    for (const boxes of layers) {
      const across = Math.min(boxes.length, Math.max(1, Math.floor((wide + 10) / 150)));
      const width = Math.min(220, (wide - 2 - 10 * (across - 1)) / across);
      const tallest = Math.max(...boxes.map((box) => HEIGHTS[box.kind]));
      bySlot(boxes).forEach((box, at) => {
        const inRow = Math.min(across, boxes.length - Math.floor(at / across) * across);
        const left = (wide - inRow * width - (inRow - 1) * 10) / 2;
        const row = Math.floor(at / across) * (tallest + 10);
        places.set(box.id, { x: left + (at % across) * (width + 10), y: y + row, w: width, h: HEIGHTS[box.kind] });
      });
      y += Math.ceil(boxes.length / across) * (tallest + 10) + 16;
    }
    return places;
  }

  show(figures) {
    for (const box of this.drawing.boxes) {
      const shown = this.boxes.get(box.id);
      const node = figures.nodes[box.name];
      const isNode = box.kind === "node" && node;
      shown.classList.toggle("bottleneck", Boolean(isNode) && figures.bottleneck === box.name);
      shown.querySelector(".fill").style.width = isNode ? share(node.busy).replace(" ", "") : "0";
      shown.querySelector(".rows").replaceChildren(...this.rowsOf(box, node, figures));
    }
  }

  rowsOf(box, node, f) {
    if (box.kind === "node" && node) {
      return [
        row(rate(node.rate), box.title || (node.workers > 1 ? `x ${node.workers}` : "")),
        row(`${rate(node.service_rate)}`, "a worker"),
        row(share(node.busy), "busy"),
        row(brief(node.waiting), "wait"),
        row(`${seconds(node.p50_s)}`, `p99 ${seconds(node.p99_s)}`),
      ];
    }
    if (box.name === "sequencer" && box.kind === "engine") return [row(rate(f.read_rate), "numbered"), row(brief(f.in_flight), "in flight")];
    if (box.name === "barrier" && box.kind === "engine") return [row(rate(f.out_rate), "released"), row(brief(f.held), "held")];
    if (box.kind === "source") return [row(this.sources === 1 ? brief(f.totals.events_in) : "", "read")];
    if (box.kind === "sink") return [row("", "sink")];
    return [row("", box.title)];
  }
}

const bySlot = (boxes) => [...boxes].sort((a, b) => a.slot - b.slot);

function row(strong, weak) {
  const made = make("div", "row");
  made.append(make("b", "", strong), make("span", "", weak));
  return made;
}

function line(arrow, places, down) {
  const a = places.get(arrow.start), b = places.get(arrow.to);
  const [x1, y1] = down ? [a.x + a.w / 2, a.y + a.h] : [a.x + a.w, a.y + a.h / 2];
  const [x2, y2] = down ? [b.x + b.w / 2, b.y - 5] : [b.x - 5, b.y + b.h / 2];
  const bend = Math.max(14, (down ? y2 - y1 : x2 - x1) / 2);
  const path = document.createElementNS(SVG, "path");
  const [c1, c2] = down ? [`${x1} ${y1 + bend}`, `${x2} ${y2 - bend}`] : [`${x1 + bend} ${y1}`, `${x2 - bend} ${y2}`];
  path.setAttribute("d", `M${x1} ${y1}C${c1},${c2},${x2} ${y2}`);
  if (arrow.dotted) path.classList.add("dotted");
  const tip = document.createElementNS(SVG, "path");
  tip.classList.add("tip");
  tip.setAttribute("d", down ? `M${x2 - 4} ${y2 - 1}l4 6l4 -6z` : `M${x2 - 1} ${y2 - 4}l6 4l-6 4z`);
  return [path, tip];
}
