"use strict";
// A case in the browser: grey levels and two label maps (z, y, x), and how a slice of them is painted.
// Axes point toward superior, posterior and left, so that slices are shown as radiologists are used to.

Report.PLANES = {
  axial: { slice: 0, row: 1, column: 2, flipped: false, edges: ["A", "L", "P", "R"] },
  coronal: { slice: 1, row: 0, column: 2, flipped: true, edges: ["S", "L", "I", "R"] },
  sagittal: { slice: 2, row: 0, column: 1, flipped: true, edges: ["S", "P", "I", "A"] },
};

Report.Volume = class {
  static async unpack(packed) {
    const volume = new Report.Volume();
    Object.assign(volume, packed, { spacing: packed.spacing_mm });
    volume.levels = await Promise.all(
      packed.channels.map(async (channel) => new Uint8Array(await Report.inflate(channel.data))));
    volume.truth = new Uint16Array(await Report.inflate(packed.truth));
    volume.prediction = new Uint16Array(await Report.inflate(packed.prediction));
    volume.error = volume.truth.map((label, place) => {
      const predicted = volume.prediction[place];
      return label === predicted ? 0 : !predicted ? 1 : !label ? 2 : 3;
    });
    const [, rows, columns] = volume.shape;
    volume.strides = [rows * columns, columns, 1];
    return volume;
  }

  slices(plane) {
    return this.shape[Report.PLANES[plane].slice];
  }

  // The slice that shows most of what was to be found or was found.
  fullest(plane) {
    const axis = Report.PLANES[plane].slice;
    const counts = new Uint32Array(this.shape[axis]);
    for (let place = 0; place < this.truth.length; place++) {
      if (this.truth[place] || this.prediction[place]) counts[Math.floor(place / this.strides[axis]) % this.shape[axis]]++;
    }
    const most = Math.max(...counts);
    return most ? counts.indexOf(most) : counts.length >> 1;
  }

  // Size in voxels and millimetres of a plane's slices, and where their voxels lie.
  layout(plane, slice) {
    const { slice: axis, row, column, flipped } = Report.PLANES[plane];
    const [height, width] = [this.shape[row], this.shape[column]];
    const down = flipped ? -this.strides[row] : this.strides[row];
    const first = slice * this.strides[axis] + (flipped ? (height - 1) * this.strides[row] : 0);
    return {
      width, height, wide: width * this.spacing[column], high: height * this.spacing[row],
      place: (x, y) => first + y * down + x * this.strides[column],
    };
  }

  // Grey levels (or colours) under a window, as a canvas of one pixel per voxel.
  image(layout, { channel, window, level }) {
    const shades = this.channels.map(({ low, high }) => Uint8ClampedArray.from({ length: 256 }, (_, grey) => {
      const intensity = low + (high - low) * grey / 255;
      return 255 * (intensity - level + window / 2) / Math.max(window, 1e-12);
    }));
    const shown = this.colour ? [0, 1, 2] : [channel, channel, channel];
    return this.painted(layout, (pixels, at, place) => {
      for (let part = 0; part < 3; part++) pixels[at + part] = shades[shown[part]][this.levels[shown[part]][place]];
      pixels[at + 3] = 255;
    });
  }

  // A label map in its colours, transparent where there is none.
  fill(layout, labels, colours) {
    return this.painted(layout, (pixels, at, place) => {
      const label = labels[place];
      if (!label) return;
      pixels.set(colours[(label - 1) % colours.length], at);
      pixels[at + 3] = 255;
    });
  }

  painted(layout, paint) {
    const { width, height, place } = layout;
    const canvas = Report.element("canvas", { width, height });
    const picture = new ImageData(width, height);
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at += 4) paint(picture.data, at, place(x, y));
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
    return canvas;
  }

  // Outlines between voxels of different labels, one path per label, in voxels.
  outlines({ width, height, place }, labels) {
    const paths = new Map();
    const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : labels[place(x, y)]);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const label = at(x, y);
        if (!label) continue;
        if (!paths.has(label)) paths.set(label, new Path2D());
        const path = paths.get(label);
        const edge = (x1, y1, x2, y2) => { path.moveTo(x1, y1); path.lineTo(x2, y2); };
        if (at(x, y - 1) !== label) edge(x, y, x + 1, y);
        if (at(x, y + 1) !== label) edge(x, y + 1, x + 1, y + 1);
        if (at(x - 1, y) !== label) edge(x, y, x, y + 1);
        if (at(x + 1, y) !== label) edge(x + 1, y, x + 1, y + 1);
      }
    }
    return paths;
  }

  // Paint a slice as large as the canvas allows, with the proportions of the patient; returns where it lies.
  draw(canvas, view, colours) {
    const context = canvas.getContext("2d");
    const layout = this.layout(view.plane, view.slice);
    const scale = Math.min(canvas.width / layout.wide, canvas.height / layout.high);
    const [wide, high] = [layout.wide * scale, layout.high * scale];
    const [left, top] = [(canvas.width - wide) / 2, (canvas.height - high) / 2];
    context.reset();
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = true;
    context.drawImage(this.image(layout, view), left, top, wide, high);
    if (view.overlay !== "none") {
      const shades = view.overlay === "error" ? colours.errors : colours.labels;
      context.imageSmoothingEnabled = false; // a mask has edges, and they matter
      context.globalAlpha = view.opacity;
      if (view.outline) this.stroke(context, layout, this[view.overlay], shades, [left, top, wide, high]);
      else context.drawImage(this.fill(layout, this[view.overlay], shades), left, top, wide, high);
      context.globalAlpha = 1;
    }
    return { layout, left, top, wide, high };
  }

  stroke(context, layout, labels, colours, [left, top, wide, high]) {
    const matrix = new DOMMatrix([wide / layout.width, 0, 0, high / layout.height, left, top]);
    context.lineWidth = Math.max(3.5, context.canvas.width / 130);
    context.lineCap = "square";
    for (const [label, path] of this.outlines(layout, labels)) {
      const placed = new Path2D();
      placed.addPath(path, matrix);
      context.strokeStyle = `rgb(${colours[(label - 1) % colours.length].join(" ")})`;
      context.stroke(placed);
    }
  }
};
