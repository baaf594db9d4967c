"use strict";
/* Data in the plane: the discriminator's surface, the generated points, and an arrow for the gradient of each. */
(function () {
  const {html, svg, part, number} = Explain;
  const SIDE = 440;

  /* The surface of logits on the square, painted so that rows go up. */
  Explain.surfaceCanvas = function (surface, largest) {
    const [rows, columns] = surface.shape, canvas = Explain.canvas(rows, columns, {"aria-hidden": "true", class: "surface"});
    canvas.paint((y, x) => Explain.signed(surface.values[(rows - 1 - y) * columns + x] / (largest || 1)));
    return canvas;
  };

  /* Points and arrows over a square of the plane: limits are [x from, x to, y from, y to]. */
  Explain.arrows = function (points, directions, limits, longest, classes = "", chosen = -1, label = "", data = []) {
    const x = Explain.linear(limits[0], limits[1], 0, SIDE), y = Explain.linear(limits[2], limits[3], SIDE, 0);
    const marks = [], crosses = [];
    for (let i = 0; i < data.length / 2; i++) crosses.push(`M${x(data[2 * i]) - 3},${y(data[2 * i + 1])}h6m-3,-3v6`);
    if (crosses.length) marks.push(svg("path", {class: "datum", d: crosses.join("")}));
    for (let i = 0; i < points.length / 2; i++) {
      const px = x(points[2 * i]), py = y(points[2 * i + 1]);
      if (directions) {
        const dx = 56 * directions[2 * i] / longest, dy = -56 * directions[2 * i + 1] / longest, size = Math.hypot(dx, dy);
        if (size > 0.5) {
          const ux = dx / size, uy = dy / size, head = Math.min(6, size);
          marks.push(svg("path", {class: `arrow ${classes}`, d: `M${px},${py} l${dx},${dy} m${-head * (ux - 0.5 * uy)},${-head * (uy + 0.5 * ux)} ` +
            `l${head * (ux - 0.5 * uy)},${head * (uy + 0.5 * ux)} l${-head * (ux + 0.5 * uy)},${-head * (uy - 0.5 * ux)}`}));
        }
      }
      marks.push(svg("circle", {class: i === chosen ? "dot chosen" : "dot", cx: px, cy: py, r: 3.2}));
    }
    return svg("svg", {viewBox: `0 0 ${SIDE} ${SIDE}`, class: "over", role: "img", "aria-label": label}, ...marks);
  };

  function limitsOf(state) {
    if (state.section.limits) return state.section.limits;
    const most = 1.15 * Explain.largest(state.images) || 1;
    return [-most, most, -most, most];
  }

  /* The view of section (a) for points. */
  Explain.plane = function (state) {
    const whole = html("div", {class: "plane"}), limits = limitsOf(state);
    const largest = state.surface ? Explain.largest(state.surface) : 1;
    let chosen = 0, record = 0;
    whole.show = function (r) {
      record = r;
      const points = part(state.images, r).values, gradient = part(state.gradient, r).values, scale = part(state.scale, r).values;
      const away = Array.from(gradient, (g, k) => -g * scale[Math.floor(k / 2)]);
      const longest = Math.max(...scale) || 1;
      const f = part(state.logits, r).values, beyond = (v, k) => v < limits[k % 2 ? 2 : 0] || v > limits[k % 2 ? 3 : 1];
      const outside = f.filter((_, i) => beyond(points[2 * i], 0) || beyond(points[2 * i + 1], 1)).length;
      whole.replaceChildren(html("div", {class: "square"},
        state.surface ? Explain.surfaceCanvas(part(state.surface, r), largest) : null,
        Explain.arrows(points, away, limits, longest, "", chosen, `Points with arrows against their gradients. Logits: ${Array.from(f, v => number(v, 2)).join(", ")}`, state.data ? state.data.values : [])), outside ? html("p", {class: "caption"}, `${outside} of the ${f.length} points lie outside this square.`) : "");
      whole.dataset.logits = JSON.stringify(Array.from(f));
    };
    whole.choose = i => { chosen = i; whole.show(record); };
    return whole;
  };
  Explain.planeCaption = state => ["Each dot is a generated point. Its arrow goes against the gradient ∂L/∂x, to where the generator's next step pushes it; " +
    "the longest arrow has the largest gradient. ", state.data ? "Crosses are data. " : "", ...(state.surface ? ["The ground is the discriminator's logit: ", html("b", {class: "pos"}, "orange"),
    " where it says real, ", html("b", {class: "neg"}, "blue"), " where it says generated."] : [])];
})();
