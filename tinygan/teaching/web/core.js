"use strict";
/* What all figures share: elements, arrays, numbers in words, colours of signed values. The page has one global name. */
const Explain = {figures: {}};

(function () {
  const SVG = "http://www.w3.org/2000/svg";

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
    }
    node.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined));
    return node;
  }
  /* An element of HTML, and one of SVG: html("p", {class: "x"}, "text", child, ...). */
  Explain.html = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  Explain.svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
  Explain.chart = (width, height, label, ...children) =>
    Explain.svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label}, ...children);

  /* A text about images, as one about points where the data are in the plane. */
  Explain.planar = false;
  Explain.words = text => !Explain.planar ? text : text.replace(/\b([aA])n image\b/g, "$1 point").replace(/\bimage(s?)\b/g, "point$1").replace(/\bImage(s?)\b/g, "Point$1");

  /* Whether the page is as narrow as a telephone: some charts have fewer units then, so that their words stay readable. */
  Explain.narrow = () => matchMedia("(max-width: 34rem)").matches;

  /* Arrays: {shape, dtype, data: base64, little endian} -> {shape, values}. */
  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  Explain.array = function (stored) {
    if (!stored) return null;
    if (Array.isArray(stored)) return {shape: [stored.length], values: stored.flat(Infinity)};
    const text = atob(stored.data), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const view = new DataView(bytes.buffer);
    let values = bytes;
    if (stored.dtype === "f32") values = Float32Array.from({length: bytes.length / 4}, (_, i) => view.getFloat32(4 * i, true));
    if (stored.dtype === "f16") values = Float32Array.from({length: bytes.length / 2}, (_, i) => half(view.getUint16(2 * i, true)));
    return {shape: stored.shape, values};
  };
  /* The part of an array at these leading indices: part(a, 3, 2) is a[3, 2], flat. */
  Explain.part = function (array, ...at) {
    const rest = array.shape.slice(at.length), size = rest.reduce((a, b) => a * b, 1);
    let start = 0;
    at.forEach((index, axis) => { start = start * array.shape[axis] + index; });
    return {shape: rest, values: array.values.subarray ? array.values.subarray(start * size, (start + 1) * size)
      : array.values.slice(start * size, (start + 1) * size)};
  };

  /* Numbers as a reader writes them: 0.031, −2.4, 3.1×10⁻⁵. */
  const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  Explain.raised = n => (n < 0 ? "⁻" : "") + String(Math.abs(n)).replace(/\d/g, digit => RAISED[digit]);
  Explain.number = function (x, digits = 3) {
    if (x === null || x === undefined) return "–";
    if (Number.isNaN(x)) return "not a number";
    if (!Number.isFinite(x)) return x < 0 ? "−∞" : "∞";
    if (x === 0) return "0";
    const sign = x < 0 ? "−" : "", size = Math.abs(x);
    if (size >= 0.001 && size < 1e5) {
      const text = Number(size.toPrecision(digits));
      return sign + (size >= 1000 ? Math.round(size).toLocaleString("en") : String(text));
    }
    const [mantissa, exponent] = size.toExponential(Math.max(digits - 1, 0)).split("e");
    return `${sign}${mantissa}×10${Explain.raised(Number(exponent))}`;
  };
  /* A sentence with its numbers set like those of the page: 1.2×10⁻⁵, and no line break before a percent sign. */
  Explain.set = text => text.replace(/(\d)e([+-]\d+)/g, (_, digit, power) => `${digit}×10${Explain.raised(Number(power))}`).replace(/ %/g, "\u00a0%");
  /* A logit, with as many decimals as matter: −0.27, −12.4. */
  Explain.logit = f => Number.isFinite(f) ? f.toFixed(Math.abs(f) < 9.95 ? 2 : Math.abs(f) < 999.5 ? 1 : 0).replace("-", "−") : Explain.number(f);
  Explain.percent = x => (x > 0 && x < 0.01 ? "<1" : String(Math.round(100 * x))) + " %";
  Explain.sigmoid = x => 1 / (1 + Math.exp(-x));
  Explain.softplus = x => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  Explain.mean = values => Array.from(values).reduce((a, b) => a + b, 0) / values.length;

  /* Scales. A logarithmic one puts zeros at its lower end. */
  Explain.linear = (low, high, from, to) => x => from + (x - low) / (high - low || 1) * (to - from);
  Explain.log = function (low, high, from, to) {
    const scale = Explain.linear(Math.log10(low), Math.log10(high), from, to);
    return x => scale(Math.min(Math.max(Math.log10(Math.max(x, 1e-300)), Math.log10(low)), Math.log10(high)));
  };
  /* Whole powers of ten around positive values: [low, high]; at most `most` decades, the largest kept. */
  Explain.decades = function (values, most = 12) {
    const positive = Array.from(values).filter(v => v > 0 && Number.isFinite(v));
    if (!positive.length) return [1e-3, 1];
    let low = Math.floor(Math.log10(positive.reduce((a, b) => Math.min(a, b))));
    let high = Math.ceil(Math.log10(positive.reduce((a, b) => Math.max(a, b))));
    if (low === high) high += 1;
    if (high - low > most) low = high - most;
    return [10 ** low, 10 ** high];
  };
  Explain.power = value => `10${Explain.raised(Math.round(Math.log10(value)))}`;

  /* Epochs and steps in words. */
  Explain.when = function (section, r) {
    const epoch = section.epochs && section.epochs[r], step = section.steps && section.steps[r];
    if (step === 0) return "start";
    const at = step === undefined || step === null ? "" : `step ${step.toLocaleString("en")}`;
    if (epoch === undefined || epoch === null) return at;
    return `epoch ${Number.isInteger(epoch) ? epoch : epoch < 0.1 ? Number(epoch.toPrecision(1)) : epoch.toFixed(1)}, ${at}`;
  };

  /* A slider over the records of a section. chosen(r) is called for every new place. */
  Explain.slider = function (label, count, start, words, chosen) {
    const output = Explain.html("output", {"aria-hidden": "true"}, words(start));
    const input = Explain.html("input", {type: "range", min: 0, max: Math.max(count - 1, 0), step: 1, value: start,
      "aria-label": label, "aria-valuetext": words(start), disabled: count < 2});
    const show = r => { output.textContent = words(r); input.setAttribute("aria-valuetext", words(r)); };
    input.addEventListener("input", () => { show(+input.value); chosen(+input.value); });
    const whole = Explain.html("div", {class: "slider"}, Explain.html("span", {}, label), input, output);
    return {whole, input, set(r) { input.value = r; show(r); }};
  };

  /* Whatever depends on the colours is drawn again when the reader's system goes dark or light. */
  const redraws = [], dark = matchMedia("(prefers-color-scheme: dark)");
  Explain.redrawn = function (draw) { redraws.push(draw); draw(); };
  dark.addEventListener("change", () => redraws.forEach(draw => draw()));
})();
