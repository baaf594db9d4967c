"use strict";
/* (d) Looking ahead: logits after 0 to K updates of the discriminator, and the generator's gradient with and without them. */
(function () {
  const {html, svg, chart, array, part, number} = Explain;
  const WIDTH = Explain.narrow() ? 350 : 560, HEIGHT = 260, LEFT = 44, RIGHT = 104, TOP = 14, BOTTOM = 40;

  /* A line for each image over k, and the mean as a strong one. */
  function logitsOverK(section, logits) {
    const [count, n] = logits.shape, low = Math.min(...logits.values), high = Math.max(...logits.values);
    const x = Explain.linear(0, count - 1, LEFT, WIDTH - RIGHT), y = Explain.linear(low, high, HEIGHT - BOTTOM, TOP);
    const line = value => Array.from({length: count}, (_, k) => `${k ? "L" : "M"}${x(k).toFixed(1)},${y(value(k)).toFixed(1)}`).join("");
    const means = Array.from({length: count}, (_, k) => Explain.mean(part(logits, k).values));
    const every = Math.ceil(count / 11);
    return chart(WIDTH, HEIGHT, "Mean logit after k updates ahead: " + means.map((m, k) => `${k}: ${number(m, 3)}`).join(", "),
      low < 0 && high > 0 ? [svg("line", {class: "guide", x1: LEFT, x2: WIDTH - RIGHT, y1: y(0), y2: y(0)}), svg("text", {class: "quiet", x: WIDTH - RIGHT + 10, y: y(0) + 4, "font-size": 12}, "0: undecided")] : null,
      svg("line", {class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: HEIGHT - BOTTOM + 6, y2: HEIGHT - BOTTOM + 6}),
      section.k.filter(k => k % every === 0).map(k => svg("text", {class: "quiet", x: x(k), y: HEIGHT - BOTTOM + 22, "font-size": 12, "text-anchor": "middle"}, String(k))),
      svg("text", {class: "quiet", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 3, "font-size": 12, "text-anchor": "middle"}, "updates ahead, k"),
      [low, high].map(v => svg("text", {class: "quiet", x: LEFT - 7, y: y(v) + 4, "font-size": 12, "text-anchor": "end"}, number(v, 2))),
      Array.from({length: n}, (_, i) => svg("path", {class: "thin faint", d: line(k => logits.values[k * n + i])})),
      svg("path", {class: "curve strong", d: line(k => means[k])}),
      means.map((m, k) => svg("circle", {class: "dot", cx: x(k), cy: y(m), r: 3.4, "data-mean": m})),
      svg("text", {x: WIDTH - RIGHT + 10, y: y(means[count - 1]) + 4, "font-size": 13, "font-weight": 600}, `mean ${number(means[count - 1], 2)}`));
  }

  /* Two gradients at an image under each other, on the scale of the longer one, with their lengths and the angle. */
  function pair(state, i) {
    const both = [part(state.without, i), part(state.with_, i)], n = state.cosines.values.length;
    const scale = Math.max(...both.map(Explain.largest)) || 1;
    const [, height, width] = both[0].shape, canvases = [0, 1, 2].map(() => Explain.canvas(height, width, {"aria-hidden": "true"}));
    const lengths = [state.lengths.values[n + i], state.lengths.values[i]], cosine = state.cosines.values[i];
    Explain.redrawn(function () {
      Explain.paintImage(canvases[0], part(state.points, i));
      both.forEach((gradient, k) => Explain.paintSigned(canvases[k + 1], gradient, scale));
    });
    return html("div", {class: "sample", "data-cosine": cosine, role: "img", "aria-label": `Image ${i + 1}: length without ${number(lengths[0], 2)}, with ${number(lengths[1], 2)}, cosine ${number(cosine, 2)}`},
      canvases[0], canvases[1], html("span", {class: "scale"}, number(lengths[0], 2)), canvases[2], html("span", {class: "scale"}, number(lengths[1], 2)),
      html("span", {class: "logit"}, `${Math.round(Math.acos(Math.min(Math.max(cosine, -1), 1)) * 180 / Math.PI)}°`));
  }
  function gradients(section, state) {
    const n = state.points.shape[0];
    return html("div", {}, html("h3", {}, "The generator's gradient at its images, without and with the path through the updates"),
      html("p", {class: "caption"}, "Both maps of an image share one scale; the number below a map is the gradient's length. The angle says how far the two directions differ: at 0° looking ahead only changes the size of a step, at 90° it moves the image somewhere else altogether.", section.mean ? ` ${section.mean}` : ""),
      html("div", {class: "gallery ahead"},
        html("div", {class: "key", "aria-hidden": "true"}, html("span", {class: "k1"}, html("b", {}, "G(z)"), " the image"), html("span", {class: "k2"}, html("b", {}, "without"), " the path: D after K updates is held fixed"),
          html("span", {class: "k3"}, html("b", {}, "with"), " the path: D's updates depend on the image"), html("span", {class: "k4"}, html("b", {}, "angle"))),
        ...Array.from({length: n}, (_, i) => pair(state, i))));
  }

  /* For points: the surface after each number of updates, and arrows without and with the path. */
  function planes(section, state) {
    const points = state.points.values, largest = state.surface ? Explain.largest(state.surface) : 1;
    const limits = section.limits || [-1, 1, -1, 1].map(v => v * 1.15 * Explain.largest(state.points));
    const away = gradient => Array.from(gradient.values, v => -v);
    const longest = Math.max(...state.lengths.values) || 1;
    const square = (k, directions, title) => html("div", {}, html("h4", {}, title), html("div", {class: "square"},
      state.surface ? Explain.surfaceCanvas(part(state.surface, k), largest) : null, Explain.arrows(points, directions, limits, longest, "", -1, title)));
    const last = section.k.length - 1;
    const whole = html("div", {});
    Explain.redrawn(() => whole.replaceChildren(
      html("h3", {}, "The discriminator's surface after k updates ahead"),
      html("p", {class: "caption"}, html("b", {class: "pos"}, "Orange"), ": it says real. ", html("b", {class: "neg"}, "Blue"), ": it says generated. Dots are generated points."),
      html("div", {class: "panels many"}, ...section.k.map(k => square(k, null, k ? `k = ${k}` : "now, k = 0"))),
      html("h3", {}, "Where the generator's step pushes its points"),
      html("div", {class: "panels squares"}, square(last, away(state.without), "without the path: D after K updates is held fixed"), square(last, away(state.with_), "with the path through the updates"))));
    return whole;
  }

  Explain.figures.ahead = function (section) {
    const state = {logits: array(section.logits), points: array(section.points), surface: array(section.surface), with_: array(section.gradient_with),
      without: array(section.gradient_without), lengths: array(section.lengths), cosines: array(section.cosines)};
    document.getElementById("ahead-figure").append(html("h3", {}, Explain.words("What the discriminator will say of the same images")),
      html("p", {class: "caption"}, Explain.words("A thin line is one generated image: its logit after k updates that the discriminator has not made yet. The strong line is the mean.")),
      html("div", {class: "narrow"}, logitsOverK(section, state.logits)), state.points.shape.length === 2 ? planes(section, state) : gradients(section, state));
  };
})();
