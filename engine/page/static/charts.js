// Throughput, latency and what is in flight over the whole run, drawn by uPlot.

import { brief, seconds } from "./format.js";

const MOST = 1200; // points; then two neighbours become one
const COLUMNS = { at: 0, read: 1, released: 2, p50: 3, p99: 4, inFlight: 5 };

export class Charts {
  constructor() {
    this.rows = [];
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", () => this.make());
    new ResizeObserver(() => this.resize()).observe(document.querySelector(".charts"));
  }

  begin(points) {
    this.rows = points;
    this.make();
  }

  add(point) {
    const last = this.rows.at(-1);
    if (!point || (last && point[0] <= last[0])) return;
    this.rows.push(point);
    if (this.rows.length > MOST) this.rows = this.rows.filter((_, at) => at % 2 === 1);
    this.charts.forEach(({ plot, columns }) => plot.setData(this.data(columns)));
  }

  data(columns) {
    return [COLUMNS.at, ...columns].map((column) => this.rows.map((row) => row[column]));
  }

  make() {
    this.charts?.forEach(({ plot }) => plot.destroy());
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const series = (label, stroke, shown, fill) => ({ label, stroke, fill, width: 1.6, points: { show: false }, value: (_, v) => (v == null ? "–" : shown(v)) });
    const [one, two] = [colour("--accent"), colour("--accent-2")];
    const made = [
      ["chart-rate", [COLUMNS.read, COLUMNS.released], [series("read", two, brief), series("released", one, brief, `${one}22`)], brief],
      ["chart-stay", [COLUMNS.p50, COLUMNS.p99], [series("p50", one, seconds), series("p99", two, seconds)], seconds],
      ["chart-flight", [COLUMNS.inFlight], [series("in flight", one, brief, `${one}22`)], brief],
    ];
    this.charts = made.map(([id, columns, lines, shown]) => {
      const place = document.getElementById(id);
      const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
      const plot = new uPlot({
        width: place.clientWidth || 320, height: 170, cursor: { y: false }, padding: [8, 8, 0, 0],
        scales: { x: { time: false }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
        axes: [{ ...axis, size: 26, values: (_, at) => at.map((s) => seconds(s)), space: 70 }, { ...axis, size: 58, values: (_, at) => at.map(shown) }],
        series: [{ label: "at", value: (_, v) => (v == null ? "–" : seconds(v)) }, ...lines],
      }, this.data(columns), place);
      return { plot, columns, place };
    });
  }

  resize() {
    this.charts?.forEach(({ plot, place }) => {
      if (place.clientWidth && place.clientWidth !== plot.width) plot.setSize({ width: place.clientWidth, height: 170 });
    });
  }
}
