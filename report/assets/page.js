"use strict";
/* The page's program: charts, sortable tables, and the explorer of videos. Names reach the page as text alone. */
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const { names, kinds, media } = content;
  const byId = (id) => document.getElementById(id);
  const root = document.documentElement;

  /** An element with attributes and children; strings become text. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== undefined && value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  /** Text on one line, with control characters and what turns its direction spelt out, as by Python's utils.printable.one_line. */
  function printable(text) {
    const breaks = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/g;
    const unsafe = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]|\p{Surrogate}/gu;
    const spelt = (c) => {
      const code = c.codePointAt(0);
      return (code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`);
    };
    const line = text.replace(breaks, "\n").replace(/\n$/, "").replaceAll("\n", " ");
    return line.replace(unsafe, spelt);
  }

  const seconds = (value) => `${value.toFixed(value < 1000 ? 2 : 1)} s`;
  const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
  const percent = (value) => (Number.isNaN(value) ? "–" : `${(100 * value).toFixed(1)} %`);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  /* Theme. */

  const preferred = window.matchMedia("(prefers-color-scheme: dark)");
  let dark = preferred.matches;
  const drawn = new Map(); // element -> function that draws it again

  function setTheme(value) {
    dark = value;
    root.dataset.theme = dark ? "dark" : "light";
    byId("theme").setAttribute("aria-pressed", String(dark));
    for (const draw of drawn.values()) draw();
  }

  /* Charts. */

  const tip = byId("tip");

  /** Show pairs of a name and a value beside the pointer. */
  function showTip(event, pairs) {
    const rows = pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
    tip.replaceChildren(make("dl", {}, ...rows));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = event.clientX + 16 + box.width > root.clientWidth ? event.clientX - box.width - 16 : event.clientX + 16;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${clamp(event.clientY + 16, 4, Math.max(4, root.clientHeight - box.height - 4))}px`;
  }

  function hideTip() {
    tip.hidden = true;
  }

  function chartTip(_, event, item, value) {
    if (value === null || value === undefined || value === "") return hideTip();
    const pairs = typeof value === "object" ? Object.entries(value) : [["", value]];
    return showTip(event, pairs.map(([name, shown]) => [printable(name), printable(String(shown))]));
  }

  const embedded = new Map(); // element -> what ends its chart

  async function embed(element, spec, more = {}) {
    embedded.get(element)?.();
    const result = await window.vegaEmbed(element, spec, {
      actions: false,
      ast: true, // expressions are interpreted: the page's policy allows no eval
      defaultStyle: false,
      renderer: "svg",
      tooltip: chartTip,
      config: dark ? content.configs.dark : content.configs.light,
      ...more,
    });
    embedded.set(element, result.finalize);
    return result;
  }

  function drawChart(element) {
    drawn.set(element, () => embed(element, content.charts[element.id]));
    drawn.get(element)().then(() => (element.style.minHeight = ""));
  }

  /** Draw charts when they come near to what is seen. */
  function watchCharts() {
    const watcher = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) {
          if (!isIntersecting) continue;
          watcher.unobserve(target);
          drawChart(target);
        }
      },
      { rootMargin: "400px" },
    );
    for (const [id, spec] of Object.entries(content.charts)) {
      const element = byId(id);
      if (!element) continue;
      element.style.minHeight = `${(typeof spec.height === "number" ? spec.height : 200) + 45}px`;
      watcher.observe(element);
    }
  }

  /* Sortable tables. */

  function makeSortable(table) {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = make("button", { type: "button", onclick: () => sortBy(table, headers, column) });
      button.append(...header.childNodes);
      header.append(button);
    });
  }

  function sortBy(table, headers, column) {
    const body = table.tBodies[0];
    const key = (row) => {
      const cell = row.cells[column];
      const text = cell.dataset.sortValue ?? cell.textContent;
      const number = Number(text);
      return text.trim() === "" || Number.isNaN(number) ? text : number;
    };
    const rows = [...body.rows].map((row) => [key(row), row]);
    const numeric = rows.every(([value]) => typeof value === "number");
    const before = headers[column].getAttribute("aria-sort");
    const descending = before ? before === "ascending" : numeric; // numbers: the largest first
    rows.sort(([a], [b]) => (numeric ? a - b : String(a).localeCompare(String(b), "en", { numeric: true })));
    if (descending) rows.reverse();
    headers.forEach((header) => header.removeAttribute("aria-sort"));
    headers[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
    body.append(...rows.map(([, row]) => row));
  }

  /* Runs: what report/block.py encodes. */

  class Run {
    constructor(header, index) {
      Object.assign(this, header);
      this.letters = byId(`block-${index}`).textContent;
      this.titles = this.videos.map(printable);
      this.labels = this.classes.map(printable);
      const head = this.bytes(0, this.head);
      const count = this.videos.length;
      this.table = {};
      content.table.forEach((name, i) => (this.table[name] = new Float32Array(head, 4 * i * count, count)));
      let place = 4 * content.table.length * count;
      this.kindCounts = new Uint32Array(head, place, count * kinds.length);
      place += 4 * count * kinds.length;
      const present = new Uint32Array(head, place, count);
      const listed = new Uint16Array(head, place + 4 * count, this.listed);
      let first = 0;
      this.present = Array.from(present, (n) => listed.subarray(first, (first += n)));
      this.found = new Set(listed); // classes that some video has
    }

    /** Bytes of the block; `start` is at a multiple of 12. */
    bytes(start, size) {
      const text = atob(this.letters.slice((start / 3) * 4, (Math.ceil((start + size) / 3)) * 4));
      return Uint8Array.from(text, (c) => c.charCodeAt(0)).buffer;
    }

    /** Everything about a video. */
    video(index) {
      const of = (name) => this.table[name][index];
      const [n, g, s, shown, p] = ["detections", "instances", "scored", "shown", "sequences"].map(of);
      const buffer = this.bytes(12 * of("offset"), 12 * of("size"));
      let place = 0;
      const take = (Type, length) => {
        const values = new Type(buffer, place, length);
        place += length * Type.BYTES_PER_ELEMENT;
        return values;
      };
      const [start, end, score] = [n, n, n].map((length) => take(Float32Array, length));
      const [trueStart, trueEnd, classScore] = [g, g, s].map((length) => take(Float32Array, length));
      const [label, trueLabel, scored, classes, withRows] = [n, g, s, shown, p].map((length) => take(Uint16Array, length));
      const [kind, hit, missed] = [n, n, g].map((length) => take(Uint8Array, length));
      const [low, high] = this.scores;
      const opacity = (value) => content.faintest + ((1 - content.faintest) * (value - low)) / Math.max(high - low, 1e-12);
      const inRow = new Set(classes);
      const points = Math.ceil(of("snippets") / this.pooled);
      const row = () => take(Uint8Array, points);
      const cas = Array.from(withRows, row);
      const has = (part) => this.parts.includes(part);
      const combined = has("combined") ? Array.from(withRows, row) : null;
      const fused = has("actionness") ? [[names.fused, row()]] : [];
      const streams = this.streams.map((name) => [name, row()]);
      const targets = [["pseudo_label", names.pseudoLabel], ["mask", names.mask]].flatMap(
        ([part, name]) => (has(part) ? [[name, row()]] : []));
      const rowNames = Array.from(withRows, (c) => this.labels[c]);
      return {
        index,
        seconds: of("seconds"),
        ap: of("ap"),
        falsePositives: of("false_positives"),
        found: of("found"),
        first: of("first"),
        step: of("step"),
        snippets: of("snippets"),
        classNames: Array.from(classes, (c) => this.labels[c]),
        detections: Array.from(score, (value, i) => ({
          id: i, class: this.labels[label[i]], hasRow: inRow.has(label[i]), start: start[i], end: end[i], score: value,
          opacity: opacity(value), hit: hit[i] === 1, kind: kinds[kind[i]],
        })),
        truth: Array.from(trueLabel, (c, i) => ({
          class: this.labels[c], hasRow: inRow.has(c), start: trueStart[i], end: trueEnd[i], missed: missed[i] === 1,
        })),
        scored: Array.from(scored, (word, i) => ({
          name: this.labels[word % content.trueLabel], score: classScore[i], isTrue: word >= content.trueLabel,
        })),
        sequences: {
          [names.cas]: cas.map((values, i) => [rowNames[i], values]),
          ...(combined && { [names.combined]: combined.map((values, i) => [rowNames[i], values]) }),
        },
        actionness: [...streams, ...fused],
        targets,
      };
    }
  }

  /* One run's timeline of the video that is looked at. */

  const MOST_ROWS = 100; // of a table of detections, until all are asked for

  class Timeline {
    constructor(run, index, explorer) {
      this.run = run;
      this.index = index;
      this.explorer = explorer;
      this.longest = Math.max(0, ...[...run.found].map((c) => run.labels[c].length));
      this.heading = make("h3", {}, printable(run.name));
      this.heading.hidden = content.runs.length === 1;
      this.element = make("div", {
        class: "timeline", tabindex: "0", role: "application", "aria-roledescription": "timeline",
        "aria-describedby": "keys",
      });
      this.count = make("p", { class: "count" });
      this.chart = make("div");
      this.element.append(this.chart);
      byId("timelines").append(this.heading, this.element, this.count);
      this.ready = null;
      this.video = null;
      this.chosen = -1;
      this.listen();
      new ResizeObserver(() => this.fit()).observe(this.element);
    }

    get sizes() {
      const whole = this.element.clientWidth;
      const gutter = whole < 500 ? 64 : clamp(this.longest * 6.5 + 12, 120, whole / 4);
      return { gutter, width: Math.max(80, whole - gutter - 24) };
    }

    draw() {
      const patch = (spec) => {
        const legends = spec.marks.flatMap((mark) => mark.legends || []);
        legends.filter((legend) => legend.title === names.cas).forEach((legend) => (legend.title = { signal: "sequence" }));
        const { signals, rows } = this.state;
        const values = { ...signals, gutter: this.sizes.gutter };
        for (const signal of spec.signals) if (signal.name in values) signal.value = values[signal.name];
        for (const data of spec.data) if (data.name in rows) data.values = rows[data.name];
        spec.width = this.sizes.width;
        return spec;
      };
      this.ready = embed(this.chart, content.timelines[this.index], { patch, tooltip: false }).then(({ view }) => {
        this.view = view;
        this.pixels = this.sizes.width;
        for (const name of ["role", "aria-roledescription", "aria-label"]) this.chart.removeAttribute(name); // the widget has them
        view.addEventListener("mousemove", (event, item) => this.hover(event, item));
        view.addEventListener("click", (event, item) => this.click(event, item));
      });
      return this.ready;
    }

    fit() {
      const { width, gutter } = this.sizes;
      if (!this.view || width === this.pixels) return;
      this.pixels = width;
      this.view.signal("width", width).signal("gutter", gutter).runAsync();
    }

    show(video) {
      this.video = video;
      const name = this.explorer.title;
      this.element.setAttribute("aria-label", content.runs.length > 1 ? `${name}, ${printable(this.run.name)}` : name);
      return this.ready ? this.ready.then(() => this.fill()) : this.draw();
    }

    /** The chart's signals and the rows of its data sets. A chart without any class has no layout: there is always one. */
    get state() {
      const { explorer } = this;
      const { classNames, truth, detections, actionness, targets, sequences } = this.video;
      const steps = (kind) => ([name, values]) =>
        Array.from({ length: values.length + 1 }, (_, t) => ({
          name, kind, time: this.time(t), value: values[Math.min(t, values.length - 1)] / 255,
        }));
      const rows = {
        truth: truth.filter(({ hasRow }) => hasRow),
        detections: detections.filter(({ hasRow }) => hasRow).reverse(),
        classes: Object.entries(sequences).flatMap(([kind, lines]) => lines.flatMap(steps(kind))),
        actionness: actionness.flatMap(steps()),
        targets: targets.flatMap(steps()),
      };
      const { datasets } = content.timelines[this.index]; // a model need not have all rows
      return {
        signals: { ...explorer.signals, chosen: this.chosen, class_names: classNames.length ? classNames : ["no class"] },
        rows: Object.fromEntries(Object.entries(rows).filter(([name]) => Object.hasOwn(datasets, name))),
      };
    }

    /** Put the video's rows into the chart that stands. */
    fill() {
      const { signals, rows } = this.state;
      for (const [name, values] of Object.entries(rows)) this.view.data(name, values);
      return this.set(signals);
    }

    /** Where point t of the sequences begins, in seconds. */
    time(t) {
      const { first, step, snippets } = this.video;
      return first + step * Math.min(t * this.run.pooled, snippets);
    }

    set(signals) {
      if (!this.view) return undefined;
      for (const [name, value] of Object.entries(signals)) this.view.signal(name, value);
      return this.view.runAsync();
    }

    get visible() {
      return this.video.detections.filter(({ score }) => score >= this.explorer.threshold);
    }

    showCount() {
      const { run, video } = this;
      const kept = video.detections.length;
      const cut = kept < video.found ? `, of ${video.found.toLocaleString("en")} found` : "";
      const hits = run.known ? `; ${this.visible.filter(({ hit }) => hit).length} correct at tIoU ${run.tiou}` : "";
      this.count.textContent = `${this.visible.length.toLocaleString("en")} of ${count(kept, "detection")} shown${cut}${hits}.`;
    }

    /** The second under a pointer, or undefined outside of the rows. */
    at(event) {
      const plot = this.chart.querySelector(".concat_0_group .background");
      if (!plot) return undefined;
      const box = plot.getBoundingClientRect();
      const { from, to } = this.explorer;
      const share = (event.clientX - box.left) / box.width;
      return share < 0 || share > 1 ? undefined : from + share * (to - from);
    }

    hover(event, item) {
      const time = this.at(event);
      if (time === undefined || this.drag?.moved) return this.leave();
      this.set({ cursor: time });
      return showTip(event, this.read(time, item?.datum));
    }

    leave() {
      hideTip();
      this.set({ cursor: -1 });
    }

    /** What is there at a second, as pairs: a detection under the pointer, instances, and all sequences. */
    read(time, datum) {
      const { truth, sequences, actionness, targets } = this.video;
      const span = ({ start, end }) => `${start.toFixed(2)} to ${seconds(end)}`;
      const point = Math.floor((time - this.video.first) / (this.video.step * this.run.pooled));
      const value = ([name, values]) => [name, point >= 0 && point < values.length ? (values[point] / 255).toFixed(2) : "–"];
      const pairs = [["time", seconds(time)]];
      if (datum?.id !== undefined && datum.score !== undefined) {
        pairs.push([`detection: ${datum.class}`, span(datum)], ["score", datum.score.toPrecision(4)]);
        if (datum.kind) pairs.push(["judged", datum.kind]);
      }
      for (const instance of truth) {
        if (instance.start <= time && time <= instance.end) pairs.push([`true: ${instance.class}`, span(instance)]);
      }
      pairs.push(...(sequences[this.explorer.sequence] || []).map(value), ...actionness.map(value), ...targets.map(value));
      return pairs;
    }

    click(event, item) {
      if (this.drag?.moved) return;
      const time = this.at(event);
      if (item?.datum?.score !== undefined) this.choose(item.datum.id);
      if (time !== undefined) this.explorer.seek(time);
    }

    choose(id) {
      this.chosen = id;
      this.set({ chosen: id });
      const detection = this.video.detections[id];
      for (const row of this.rows || []) row.classList.toggle("chosen", row.dataset.id === String(id));
      byId("chosen").textContent = detection
        ? `${detection.class}: ${detection.start.toFixed(2)} to ${seconds(detection.end)}, score ` +
          `${detection.score.toPrecision(4)}${detection.kind ? `, ${detection.kind}` : ""}`
        : "";
    }

    listen() {
      const { element, explorer } = this;
      element.addEventListener("pointerleave", () => this.leave());
      element.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        this.drag = { x: event.clientX, from: explorer.from, to: explorer.to, moved: false };
        element.focus({ preventScroll: true });
      });
      element.addEventListener("pointermove", (event) => {
        if (!this.drag || !(event.buttons & 1)) return;
        const moved = event.clientX - this.drag.x;
        if (!this.drag.moved && Math.abs(moved) < 4) return;
        if (!this.drag.moved) element.setPointerCapture(event.pointerId);
        this.drag.moved = true;
        const { from, to } = this.drag;
        const shift = (-moved / this.pixels) * (to - from);
        explorer.look(from + shift, to + shift);
      });
      element.addEventListener("pointerup", () => setTimeout(() => (this.drag = null)));
      element.addEventListener("pointercancel", () => (this.drag = null));
      element.addEventListener("dblclick", () => explorer.look(0, Infinity));
      element.addEventListener(
        "wheel",
        (event) => {
          if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
            event.preventDefault();
            return explorer.move(event.deltaX / this.pixels);
          }
          if (!event.ctrlKey && document.activeElement !== element) return undefined; // the page scrolls
          event.preventDefault();
          return explorer.zoom(Math.exp(clamp(event.deltaY, -60, 60) / 200), this.at(event));
        },
        { passive: false },
      );
      element.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.altKey || event.metaKey) return;
        const act = {
          "+": () => explorer.zoom(0.5), "=": () => explorer.zoom(0.5),
          "-": () => explorer.zoom(2), "−": () => explorer.zoom(2),
          ArrowLeft: () => explorer.move(-0.2), ArrowRight: () => explorer.move(0.2),
          Home: () => explorer.look(0, Infinity), Escape: () => this.choose(-1),
          ".": () => this.stepTo(1), ",": () => this.stepTo(-1),
          n: () => explorer.step(1), p: () => explorer.step(-1),
        }[event.key];
        if (!act) return;
        event.preventDefault();
        act();
      });
    }

    /** Choose the detection after or before the chosen one, in time. */
    stepTo(by) {
      const visible = this.visible.sort((a, b) => a.start - b.start || a.id - b.id);
      if (!visible.length) return;
      const now = visible.findIndex(({ id }) => id === this.chosen);
      const next = visible[now < 0 ? (by > 0 ? 0 : visible.length - 1) : (now + by + visible.length) % visible.length];
      this.choose(next.id);
      this.explorer.reveal(next);
    }

    /** The video's class scores and its detections, as tables. */
    lists() {
      const { run, video, explorer } = this;
      const largest = Math.max(1e-9, ...video.scored.map(({ score }) => score));
      const andTrue = video.scored.some(({ isTrue }) => isTrue) ? " and those of true classes" : "";
      const bars = make("table", { class: "bars" },
        make("caption", {}, `Class scores${video.scored.length < run.classes.length ? `, the largest${andTrue}` : ""}`),
        make("tbody", {}, ...video.scored.map(({ name, score, isTrue }) => {
          const bar = make("span", { class: "bar" });
          bar.style.width = `${(100 * score) / largest}%`;
          const shown = isTrue ? make("strong", {}, `${name} (true)`) : name;
          return make("tr", {}, make("th", { scope: "row" }, shown), make("td", {}, bar), make("td", {}, score.toFixed(3)));
        })));
      const columns = ["start (s)", "end (s)", "class", "score", ...(run.known ? ["judged"] : [])];
      const { visible } = this;
      const listed = this.listsAll ? visible : visible.slice(0, MOST_ROWS);
      this.rows = listed.map((detection) => {
        const { id, start, end, score } = detection;
        const look = make("button", {
          type: "button", "aria-label": `Show ${detection.class} at ${seconds(start)}`,
          onclick: () => { this.choose(id); explorer.reveal(detection); },
          onfocus: () => this.choose(id),
        }, start.toFixed(2));
        const cells = [look, end.toFixed(2), detection.class, score.toPrecision(4), ...(run.known ? [detection.kind || (detection.hit ? "correct" : "wrong")] : [])];
        const row = make("tr", { "data-id": id }, ...cells.map((cell) => make("td", {}, cell)));
        row.cells[0].dataset.sortValue = start;
        row.classList.toggle("chosen", id === this.chosen);
        return row;
      });
      const table = make("table", { class: "detections" },
        make("caption", {}, `Detections, best first${content.runs.length > 1 ? `: ${printable(run.name)}` : ""}`),
        make("thead", {}, make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name)))),
        make("tbody", {}, ...this.rows));
      makeSortable(table);
      const scroll = (of, label) => make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, of);
      const more = make("button", { type: "button", onclick: () => { this.listsAll = true; explorer.list(); } });
      more.textContent = `All ${visible.length.toLocaleString("en")} rows`;
      more.hidden = listed.length === visible.length;
      return make("div", { class: "lists" }, make("div", {}, scroll(table, `Detections, ${printable(run.name)}`), more), bars);
    }
  }

  /* The explorer: one state for all runs. */

  const MOST_LISTED = 300; // videos
  const MOST_CAPTIONS = 100; // of a video

  const explorer = {
    runs: content.runs.map((header, i) => new Run(header, i)),
    from: 0,
    to: 1,
    threshold: 0,
    timelines: [],
    sequence: names.cas,
    playhead: -1,
    index: null, // of the video that is shown
    listed: [], // indices of the videos that fit the choice

    get run() {
      return this.runs[Number(byId("run").value) || 0];
    },
    /** The videos that a number of the report led to; undefined for all. */
    get chosenGroup() {
      const groups = content.groups[this.runs.indexOf(this.run)] ?? {};
      return Object.hasOwn(groups, this.group ?? "") ? groups[this.group] : undefined;
    },
    get title() {
      return this.run.titles[this.index];
    },
    get signals() {
      const { from, to, threshold, sequence, playhead } = this;
      return { view_start: from, view_end: to, threshold, sequence, playhead };
    },

    start() {
      const option = (value, text) => make("option", { value }, text);
      const [{ labels }] = this.runs;
      const found = labels.map((label, i) => [label, i]).filter(([, i]) => this.runs.some((run) => run.found.has(i)));
      byId("class").append(option("", "all"), ...found.map(([label, i]) => option(i, label)));
      byId("kind").append(option("", "anything"), ...kinds.map((kind, i) => option(i, kind)));
      byId("run").append(...this.runs.map((run, i) => option(i, printable(run.name))));
      byId("sequence").append(option(names.cas, "CAS"), option(names.combined, "combined"));
      byId("run").closest("label").hidden = this.runs.length === 1;
      byId("sequence").closest("label").hidden = !this.runs.some(({ parts }) => parts.includes("combined"));
      if (!this.runs.some(({ known }) => known)) {
        document.querySelectorAll("#sort .judged").forEach((choice) => choice.remove());
        byId("sort").closest("label").hidden = true; // one order is no choice
      }
      this.low = Math.min(...this.runs.map((run) => run.scores[0]));
      this.high = Math.max(...this.runs.map((run) => run.scores[1]));
      const cuts = this.runs.flatMap((run) => [
        ...(run.most_detections === null ? [] : [`at most ${run.most_detections} detections of a video`]),
        ...(run.pooled === 1 ? [] : [`sequences as means of ${run.pooled} snippets`]),
      ]);
      byId("cuts").textContent = cuts.length ? `To keep this page small, it holds ${[...new Set(cuts)].join(" and ")}.` : "";
      if (this.run.videos.length === 0) {
        byId("video-name").textContent = "No videos";
        return;
      }
      for (const id of ["class", "kind", "sort", "run"]) byId(id).addEventListener("change", () => this.filter(true));
      byId("search").addEventListener("input", () => this.filter(false));
      byId("group-clear").addEventListener("click", () => {
        this.group = null;
        this.filter(false);
        this.remember();
        byId("search").focus();
      });
      byId("previous").addEventListener("click", () => this.step(-1));
      byId("next").addEventListener("click", () => this.step(1));
      byId("zoom-in").addEventListener("click", () => this.zoom(0.5));
      byId("zoom-out").addEventListener("click", () => this.zoom(2));
      byId("earlier").addEventListener("click", () => this.move(-0.2));
      byId("later").addEventListener("click", () => this.move(0.2));
      byId("whole").addEventListener("click", () => this.look(0, Infinity));
      byId("threshold").addEventListener("input", () => this.setThreshold(this.slid(), true));
      byId("sequence").addEventListener("change", (event) => {
        this.sequence = event.target.value;
        for (const timeline of this.timelines) timeline.set({ sequence: this.sequence });
      });
      byId("videos").addEventListener("keydown", (event) => this.moveInList(event));
      this.timelines = this.runs.map((run, i) => new Timeline(run, i, this));
      this.play();
      this.follow();
      window.addEventListener("hashchange", () => this.follow());
    },

    /** Take over the state that the address names. */
    follow() {
      const [place, query] = location.hash.slice(1).split("?");
      const keys = new URLSearchParams(place === "explore" ? query : "");
      const number = (key) => (keys.has(key) && Number.isFinite(Number(keys.get(key))) ? Number(keys.get(key)) : null);
      if (this.index === null || (place === "explore" && query !== undefined)) {
        byId("search").value = "";
        for (const id of ["class", "kind", "sort", "run"]) {
          const select = byId(id);
          select.value = keys.get(id) ?? select.options[0].value;
          if (select.selectedIndex < 0) select.selectedIndex = 0;
        }
        this.group = keys.get("group");
        this.setThreshold(number("threshold") ?? this.low, false);
        this.filter(false);
        const linked = number("video");
        const wanted = linked in this.run.videos ? linked : (this.listed[0] ?? 0);
        this.show(wanted, number("from") === null ? [] : [number("from"), number("to") ?? Infinity]);
      }
      if (place === "explore" && query !== undefined) {
        byId("explore").scrollIntoView();
        byId("explore-title").focus({ preventScroll: true });
      }
    },

    /** Put the state into the address, for links. */
    remember() {
      const keys = new URLSearchParams();
      for (const id of ["class", "kind", "sort", "run"]) {
        const select = byId(id);
        if (select.selectedIndex > 0) keys.set(id, select.value);
      }
      if (this.chosenGroup) keys.set("group", this.group);
      keys.set("video", this.index);
      if (this.threshold > this.low) keys.set("threshold", Number(this.threshold.toPrecision(9)));
      if (this.from > 0 || this.to < this.length) {
        keys.set("from", this.from.toFixed(2));
        keys.set("to", this.to.toFixed(2));
      }
      clearTimeout(this.remembering);
      this.remembering = setTimeout(() => history.replaceState(null, "", `#explore?${keys}`), 200);
    },

    /** List the videos that fit the choice; show the first if asked to and the present one is not among them. */
    filter(jump) {
      const { run } = this;
      const [cls, kind, sort] = ["class", "kind", "sort"].map((id) => byId(id).value);
      const word = byId("search").value.toLowerCase();
      const chosen = this.chosenGroup;
      const group = chosen ? new Set(chosen.videos) : null;
      byId("group").hidden = !chosen;
      byId("kind").closest("label").hidden = kind === "" && !this.runs.some(({ kindCounts }) => kindCounts.some((n) => n > 0));
      byId("group-name").textContent = chosen ? `with ${printable(chosen.label)}` : "";
      const { ap, false_positives: wrong } = run.table;
      const fits = (i) =>
        (cls === "" || run.present[i].includes(Number(cls))) &&
        (kind === "" || run.kindCounts[i * kinds.length + Number(kind)] > 0) &&
        (group === null || group.has(i)) &&
        (word === "" || run.titles[i].toLowerCase().includes(word));
      const found = run.videos.map((_, i) => i).filter(fits);
      const byAp = (sign) => (a, b) => {
        const unknown = Number.isNaN(ap[a]) - Number.isNaN(ap[b]); // videos without AP come last
        return unknown || (Number.isNaN(ap[a]) ? a - b : sign * (ap[a] - ap[b]));
      };
      const orders = {
        name: (a, b) => run.titles[a].localeCompare(run.titles[b], "en", { numeric: true }),
        ap: byAp(1), "-ap": byAp(-1), fp: (a, b) => wrong[b] - wrong[a],
      };
      found.sort(orders[sort]);
      this.listed = found;
      const most = found.length > MOST_LISTED ? `; the first ${MOST_LISTED} are listed` : "";
      byId("matches").textContent = `${count(found.length, "video")} of ${run.videos.length.toLocaleString("en")}${most}`;
      byId("videos").replaceChildren(...found.slice(0, MOST_LISTED).map((i) => {
        const note = sort === "fp" ? `${wrong[i]} FP` : run.known ? percent(ap[i]) : "";
        return make("li", {}, make("button", { type: "button", title: run.titles[i], onclick: () => this.show(i) },
          make("span", {}, run.titles[i]), make("span", {}, note)));
      }));
      if (jump && this.listed.length) this.show(this.listed[0]);
      else this.markListed();
    },

    markListed() {
      const place = this.listed.indexOf(this.index);
      [...byId("videos").children].forEach(({ firstChild }, i) => {
        if (i === place) firstChild.setAttribute("aria-current", "true");
        else firstChild.removeAttribute("aria-current");
      });
      const button = byId("videos").children[place]?.firstChild;
      if (button) {
        const list = byId("videos");
        const top = button.offsetTop - list.offsetTop;
        if (top < list.scrollTop || top > list.scrollTop + list.clientHeight - 40) list.scrollTop = top - 60;
      }
      const unlisted = place < 0;
      // They keep the focus, which an element that is disabled loses.
      byId("previous").setAttribute("aria-disabled", String(!unlisted && place === 0));
      byId("next").setAttribute("aria-disabled", String(this.listed.length === 0 || place === this.listed.length - 1));
    },

    moveInList(event) {
      const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const buttons = [...byId("videos").querySelectorAll("button")];
      buttons[clamp(buttons.indexOf(document.activeElement) + by, 0, buttons.length - 1)]?.focus();
    },

    step(by) {
      const place = this.listed.indexOf(this.index);
      const next = this.listed[place < 0 ? 0 : place + by];
      if (next !== undefined) this.show(next);
    },

    /** Show a video in every run's timeline. */
    show(index, span = []) {
      this.index = index;
      const videos = this.runs.map((run) => run.video(index));
      this.length = Math.max(0.1, ...videos.map((video) => video.seconds));
      const [from, to] = span;
      this.from = clamp(from ?? 0, 0, this.length);
      this.to = clamp(to ?? this.length, this.from + 0.05, Math.max(this.length, this.from + 0.05));
      this.playhead = -1;
      byId("chosen").textContent = "";
      byId("video-name").textContent = this.title;
      this.timelines.forEach((timeline, i) => {
        timeline.chosen = -1;
        timeline.listsAll = false;
        timeline.show(videos[i]);
      });
      this.showFacts(videos[this.runs.indexOf(this.run)]);
      this.showSpan();
      this.list();
      this.markListed();
      this.load(this.run.videos[index]);
      this.caption();
      const place = this.listed.indexOf(index);
      byId("announcement").textContent =
        `${this.title}${place < 0 ? "" : `, ${place + 1} of ${this.listed.length}`}. ${byId("facts").textContent}`;
      if (location.hash.startsWith("#explore") || this.shown) this.remember();
      this.shown = true;
    },

    showFacts(video) {
      const { run } = this;
      const facts = [seconds(video.seconds), count(video.found, "detection")];
      if (!run.known) facts.push("ground truth is not known: nothing is judged");
      else {
        const missed = video.truth.filter((instance) => instance.missed).length;
        facts.push(`${count(video.truth.length, "instance")}${missed ? `, ${missed} of them missed` : ""}`);
        facts.push(`${count(video.falsePositives, "false positive")} at tIoU ${run.tiou}`);
        facts.push(Number.isNaN(video.ap) ? "no AP without instances" : `AP ${percent(video.ap)}`);
      }
      const hidden = video.truth.filter(({ hasRow }) => !hasRow).length;
      if (hidden) facts.push(`${hidden} instances of classes without a row`);
      byId("facts").textContent = `${facts.join(" · ")}.`;
    },

    /** Counts and tables of what is shown. */
    list() {
      for (const timeline of this.timelines) timeline.showCount();
      byId("lists").replaceChildren(...this.timelines.map((timeline) => timeline.lists()));
    },

    /* Time: everything that zooms or moves comes through here. */

    look(from, to) {
      const width = clamp(to - from, 0.2, this.length);
      this.from = clamp(from, 0, this.length - width);
      this.to = this.from + width;
      for (const timeline of this.timelines) timeline.set({ view_start: this.from, view_end: this.to });
      this.showSpan();
      this.remember();
    },
    zoom(factor, around = (this.from + this.to) / 2) {
      const width = clamp((this.to - this.from) * factor, 0.2, this.length);
      const share = (around - this.from) / (this.to - this.from);
      this.look(around - share * width, around + (1 - share) * width);
    },
    move(share) {
      const by = share * (this.to - this.from);
      this.look(this.from + by, this.to + by);
    },
    reveal({ start, end }) {
      const width = this.to - this.from;
      if (start >= this.from && end <= this.to) return;
      const middle = (start + end) / 2;
      const half = Math.max(width, 1.5 * (end - start)) / 2;
      this.look(middle - half, middle + half);
    },
    showSpan() {
      byId("span").textContent = `${this.from.toFixed(1)} to ${seconds(this.to)}`;
    },

    slid() {
      const slider = byId("threshold");
      return this.low + ((this.high - this.low) * slider.value) / slider.max;
    },
    setThreshold(value, byHand) {
      const slider = byId("threshold");
      this.threshold = Math.fround(clamp(value, this.low, this.high)); // as scores are
      if (!byHand) slider.value = (slider.max * (this.threshold - this.low)) / Math.max(this.high - this.low, 1e-12);
      byId("threshold-value").textContent = this.threshold.toPrecision(3);
      slider.setAttribute("aria-valuetext", this.threshold.toPrecision(3));
      if (this.index === null) return;
      for (const timeline of this.timelines) timeline.set({ threshold: this.threshold });
      this.list();
      this.caption();
      this.remember();
    },

    /* The video's own file. */

    play() {
      const player = byId("player");
      let next = 0; // the frame that the playhead waits for: there is one loop, whatever begins it
      const follow = () => {
        cancelAnimationFrame(next);
        this.playhead = player.currentTime;
        if (!player.paused && (this.playhead > this.to || this.playhead < this.from)) {
          this.look(this.playhead, this.playhead + this.to - this.from);
        }
        for (const timeline of this.timelines) timeline.set({ playhead: this.playhead });
        if (!player.paused) next = requestAnimationFrame(follow);
      };
      for (const event of ["play", "seeked"]) player.addEventListener(event, follow);
      player.addEventListener("error", () => {
        if (player.hidden) return;
        player.hidden = true;
        byId("player-note").textContent = "This browser cannot play the video's file.";
      });
    },
    load(name) {
      const player = byId("player");
      player.pause();
      player.hidden = !Object.hasOwn(media, name);
      byId("player-note").textContent = "";
      if (player.hidden) player.removeAttribute("src");
      else player.src = media[name];
      player.setAttribute("aria-label", this.title);
    },
    /** Subtitles: of the detections that are shown, those that overlap no better one of their class. */
    caption() {
      const player = byId("player");
      if (player.hidden) return;
      this.track ??= player.addTextTrack("subtitles", "detections", "en");
      this.track.mode = "showing";
      for (const cue of [...this.track.cues]) this.track.removeCue(cue);
      const kept = [];
      for (const found of this.timelines[this.runs.indexOf(this.run)].visible) {
        const hides = (other) => other.class === found.class && other.start < found.end && found.start < other.end;
        if (found.end <= found.start || kept.some(hides)) continue;
        kept.push(found);
        const text = found.class.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
        this.track.addCue(new VTTCue(found.start, found.end, text));
        if (kept.length === MOST_CAPTIONS) break;
      }
    },
    seek(time) {
      const player = byId("player");
      if (!player.hidden) player.currentTime = time;
    },
  };

  setTheme(dark);
  preferred.addEventListener("change", ({ matches }) => setTheme(matches));
  byId("theme").addEventListener("click", () => setTheme(!dark));
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.querySelectorAll("main > section .scroll").forEach((element) => {
    element.tabIndex = 0; // whoever has no pointer scrolls it by keys
    element.setAttribute("role", "region");
    const caption = element.querySelector("caption")?.textContent || "Table";
    element.setAttribute("aria-label", `${element.closest("section").querySelector("h2").textContent}: ${caption}`);
  });
  explorer.start();
  for (const timeline of explorer.timelines) drawn.set(timeline.element, () => timeline.draw());
  Promise.all(explorer.timelines.map((timeline) => timeline.ready)).then(() => {
    root.dataset.ready = "true"; // the first timelines stand
    performance.mark("ready");
    watchCharts();
  });
})();
