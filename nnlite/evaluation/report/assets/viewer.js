"use strict";
// The cases to look at: a card for each, and one viewer with slices, window and level for the one that is open.

Report.Viewer = class {
  constructor(root, { cases, colours, labels }) {
    const rgb = (text) => [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16));
    this.colours = { labels: colours.labels.map(rgb), errors: colours.errors.map(rgb) };
    Object.assign(this, { root, cases, labels, unpacked: new Map(), volume: null });
    this.canvas = root.querySelector("canvas");
    this.readout = root.querySelector("[data-readout]");
    this.controls = Object.fromEntries([...root.querySelectorAll("[name]")]
      .filter((one) => one.type !== "radio").map((one) => [one.name, one]));
    this.view = { plane: "axial", slice: 0, channel: 0, window: 1, level: 0, overlay: "truth", outline: false, opacity: 0.5 };
    this.listen();
    this.drawCards();
    this.open(0);
  }

  unpack(index) {
    if (!this.unpacked.has(index)) this.unpacked.set(index, Report.Volume.unpack(this.cases[index]));
    return this.unpacked.get(index);
  }

  async open(index) {
    this.index = index;
    const volume = await this.unpack(index);
    if (index !== this.index) return; // another case was opened in the meantime
    this.volume = volume;
    this.controls.case.value = String(index);
    this.controls.channel.replaceChildren(...volume.channels.map(({ name }, number) =>
      Report.element("option", { value: String(number) }, name)));
    this.controls.channel.closest("label").hidden = volume.colour || volume.channels.length < 2;
    this.controls.plane.closest("label").hidden = volume.planar;
    this.view.plane = volume.planar ? "axial" : this.view.plane;
    this.view.channel = Math.min(this.view.channel, volume.channels.length - 1);
    this.root.querySelector("[data-note]").textContent = volume.note;
    this.root.querySelector("[data-title]").textContent = `${this.cases[index].id}, ${this.cases[index].rank}`;
    this.turn(this.view.plane);
    this.resetWindow();
    for (const card of document.querySelectorAll("[data-card]")) {
      card.setAttribute("aria-current", String(Number(card.dataset.card) === index));
    }
  }

  turn(plane) {
    Object.assign(this.view, { plane, slice: this.volume.fullest(plane) });
    Object.assign(this.controls.slice, { max: this.volume.slices(plane) - 1, value: this.view.slice });
    this.controls.slice.closest("label").hidden = this.volume.slices(plane) < 2;
    this.controls.plane.value = plane;
    this.draw();
  }

  resetWindow() {
    const { low, high, black, white } = this.volume.channels[this.view.channel];
    const step = (high - low) / 255;
    Object.assign(this.controls.window, { min: step, max: 1.5 * (high - low), step: step / 4 });
    Object.assign(this.controls.level, { min: low, max: high, step: step / 4 });
    this.setWindow(white - black, (white + black) / 2);
  }

  setWindow(window, level) {
    Object.assign(this.controls.window, { value: window });
    Object.assign(this.controls.level, { value: level });
    this.set({ window: Number(this.controls.window.value), level: Number(this.controls.level.value) });
  }

  set(changes) {
    Object.assign(this.view, changes);
    this.draw();
  }

  scroll(by) {
    const slice = Math.min(Math.max(this.view.slice + by, 0), this.volume.slices(this.view.plane) - 1);
    this.controls.slice.value = String(slice);
    this.set({ slice });
  }

  draw() {
    if (!this.volume) return;
    const side = Math.round(this.canvas.clientWidth * devicePixelRatio) || 512;
    if (this.canvas.width !== side) Object.assign(this.canvas, { width: side, height: side });
    this.placed = this.volume.draw(this.canvas, this.view, this.colours);
    if (!this.volume.planar) this.letters();
    const { window, level, slice, plane, opacity } = this.view;
    const shown = { slice: `${slice + 1} / ${this.volume.slices(plane)}`, window: Report.brief(window),
      level: Report.brief(level), opacity: `${Math.round(100 * opacity)} %` };
    for (const [name, value] of Object.entries(shown)) this.root.querySelector(`[data-value=${name}]`).textContent = value;
    this.controls.slice.setAttribute("aria-valuetext", shown.slice);
  }

  // Which way the patient lies.
  letters() {
    const context = this.canvas.getContext("2d");
    const size = this.canvas.width;
    const edge = size * 0.03;
    const places = [[size / 2, edge], [size - edge, size / 2], [size / 2, size - edge], [edge, size / 2]];
    Object.assign(context, { font: `600 ${Math.round(size / 38)}px system-ui, sans-serif`, textAlign: "center",
      textBaseline: "middle", fillStyle: "#fff", strokeStyle: "#000", lineWidth: size / 200 });
    Report.PLANES[this.view.plane].edges.forEach((letter, number) => {
      context.strokeText(letter, ...places[number]);
      context.fillText(letter, ...places[number]);
    });
  }

  listen() {
    const on = (name, event, act) => this.controls[name].addEventListener(event, (happened) => act(happened.target));
    on("case", "change", (input) => this.open(Number(input.value)));
    on("plane", "change", (input) => this.turn(input.value));
    on("channel", "change", (input) => { this.view.channel = Number(input.value); this.resetWindow(); });
    on("slice", "input", (input) => this.set({ slice: Number(input.value) }));
    on("window", "input", (input) => this.set({ window: Number(input.value) }));
    on("level", "input", (input) => this.set({ level: Number(input.value) }));
    on("opacity", "input", (input) => this.set({ opacity: Number(input.value) }));
    on("outline", "change", (input) => this.set({ outline: input.checked }));
    on("reset", "click", () => this.resetWindow());
    for (const radio of this.root.querySelectorAll("[name=overlay]")) {
      radio.addEventListener("change", () => this.set({ overlay: radio.value }));
    }
    this.listenToCanvas();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  listenToCanvas() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => {
      if (!this.volume || this.volume.slices(this.view.plane) < 2) return;
      event.preventDefault();
      this.scroll(Math.sign(event.deltaY));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.press(event));
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) this.drag(event.movementX, event.movementY);
      this.tell(event);
    });
    canvas.addEventListener("pointerleave", () => { this.readout.textContent = " "; });
  }

  // As at a radiologist's workstation: sideways is the window, up and down the level.
  drag(right, down) {
    const { low, high } = this.volume.channels[this.view.channel];
    const step = (high - low) / 300;
    this.setWindow(this.view.window + right * step, this.view.level - down * step);
  }

  press(event) {
    const overlays = { n: "none", t: "truth", p: "prediction", e: "error" };
    const scrolls = { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5, Home: -Infinity, End: Infinity };
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in scrolls) this.scroll(scrolls[event.key]);
    else if (event.key === "ArrowRight") this.open((this.index + 1) % this.cases.length);
    else if (event.key === "ArrowLeft") this.open((this.index + this.cases.length - 1) % this.cases.length);
    else if (event.key in overlays) this.root.querySelector(`[name=overlay][value=${overlays[event.key]}]`).click();
    else if (event.key === "o") this.controls.outline.click();
    else return;
    event.preventDefault();
  }

  // What lies under the pointer: intensity, and both labels.
  tell(event) {
    if (!this.placed) return;
    const { layout, left, top, wide, high } = this.placed;
    const x = Math.floor((event.offsetX * devicePixelRatio - left) / wide * layout.width);
    const y = Math.floor((event.offsetY * devicePixelRatio - top) / high * layout.height);
    if (x < 0 || y < 0 || x >= layout.width || y >= layout.height) { this.readout.textContent = " "; return; }
    const place = layout.place(x, y);
    const channels = this.volume.colour ? [0, 1, 2] : [this.view.channel];
    const intensity = channels.map((number) => {
      const { low, high: most } = this.volume.channels[number];
      return Report.brief(low + (most - low) * this.volume.levels[number][place] / 255);
    }).join(", ");
    const [truth, prediction] = [this.volume.truth[place], this.volume.prediction[place]].map((one) => this.labels[one]);
    this.readout.textContent = `intensity ${intensity} · truth: ${truth} · prediction: ${prediction}`;
  }

  async drawCards() {
    // all cards have one format, between lying and standing: that of the middle case
    const formats = this.cases.map(({ shape, spacing_mm: step }) => (shape[1] * step[1]) / (shape[2] * step[2])).sort((a, b) => a - b);
    const tall = Math.min(Math.max(formats[formats.length >> 1], 0.7), 1.4);
    for (const card of document.querySelectorAll("[data-card]")) {
      const index = Number(card.dataset.card);
      card.querySelector("button").addEventListener("click", () => {
        this.open(index);
        this.root.scrollIntoView({ block: "start" });
        this.canvas.focus({ preventScroll: true });
      });
      const volume = await this.unpack(index);
      const { black, white } = volume.channels[0];
      for (const canvas of card.querySelectorAll("canvas")) {
        const view = { plane: "axial", slice: volume.fullest("axial"), channel: 0, window: white - black, level: (white + black) / 2,
          overlay: canvas.dataset.overlay, outline: canvas.dataset.overlay !== "error", opacity: 0.9 };
        canvas.height = Math.round(canvas.width * tall);
        volume.draw(canvas, view, this.colours);
      }
    }
  }
};

Report.brief = (value) => (Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3))).toLocaleString("en");

const viewerRoot = document.getElementById("viewer");
if (viewerRoot) Report.viewer = new Report.Viewer(viewerRoot, JSON.parse(document.getElementById("viewer-data").textContent));
