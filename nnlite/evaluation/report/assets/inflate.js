"use strict";
// Unpack what the page carries: base64 of deflated bytes, in script elements that no browser runs.

const Report = {};

Report.inflate = async (base64) => {
  const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
};

Report.inflateJson = async (base64) => JSON.parse(new TextDecoder().decode(await Report.inflate(base64)));

// An element with attributes and children; text is always text, never markup.
Report.element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
};

Report.number = (value, digits) =>
  value === null || value === undefined ? "–" : value.toLocaleString("en", {
    minimumFractionDigits: digits, maximumFractionDigits: digits,
  }).replace("-", "−");
