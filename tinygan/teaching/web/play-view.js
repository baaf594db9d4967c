"use strict";
/* What the playground shows of a frame: the plane with its layers, the state in words, and charts over the moves. */
(function () {
  const {html, svg, array, number, percent} = Explain;
  const ARROWS = 64; // so many points have an arrow
  const COSTS = ["minimax", "non-saturating", "maximum-likelihood"];

  /* The plane. `show(frame, layers)` draws a frame; `open(opening)` takes what is fixed in a game. */
  Explain.play.plane = function (stage) {
    const reach = Explain.play.data.extent, limits = [-reach, reach, -reach, reach];
    const ground = html("div", {class: "layer"}), shade = html("div", {class: "layer"}), over = html("div", {class: "layer"});
    const note = html("p", {class: "hidden"});
    stage.append(ground, shade, over, note);
    let opening = null, last = null, shown = new Set();
    function density() {
      const stored = array(opening.density), [rows, columns] = stored.shape, canvas = html("canvas", {width: columns, height: rows, "aria-hidden": "true", class: "density"});
      const context = canvas.getContext("2d"), image = context.createImageData(columns, rows), ink = Explain.shade(1);
      for (let y = 0, k = 0; y < rows; y++) {
        for (let x = 0; x < columns; x++, k += 4) {
          image.data.set([...ink, 165 * Math.sqrt(stored.values[(rows - 1 - y) * columns + x])], k);
        }
      }
      context.putImageData(image, 0, 0);
      return canvas;
    }
    function draw() {
      if (!opening || !last) return;
      const scales = [];
      const points = array(last.points).values, gradient = array(last.gradient).values, few = points.subarray(0, 2 * ARROWS);
      const away = Float32Array.from(gradient.subarray(0, 2 * ARROWS), g => -g);
      let longest = 1e-30;
      for (let i = 0; i < ARROWS; i++) longest = Math.max(longest, Math.hypot(away[2 * i], away[2 * i + 1]) || 0);
      if (shown.has("surface") && last.surface) {
        const surface = array(last.surface);
        const largest = Explain.largest(surface);
        ground.replaceChildren(Explain.surfaceCanvas(surface, largest));
        scales.push(`The strongest colour is a logit of ±${number(largest, 2)}.`);
      } else ground.replaceChildren();
      over.replaceChildren(...(shown.has("samples") ? [Explain.arrows(points, null, limits, 1, "", -1, "Generated points")] : []),
        ...(shown.has("arrows") ? [Explain.arrows(few, away, limits, longest, "", -1, "Arrows against the gradient")] : []));
      if (shown.has("arrows")) scales.push(`The longest of ${ARROWS} arrows is a gradient of length ${number(longest, 2)}.`);
      let outside = 0;
      for (let i = 0; i < points.length; i += 2) if (!(Math.max(Math.abs(points[i]), Math.abs(points[i + 1])) <= reach)) outside += 1;
      if (outside) scales.push(`${outside} of the ${points.length / 2} points lie outside this square.`);
      document.getElementById("scales").textContent = scales.join(" ");
      over.classList.toggle("bare", !shown.has("samples"));
      const words = Explain.play.words(last, opening);
      stage.setAttribute("aria-label", `The plane. ${words} ${scales.join(" ")}`);
      stage.dataset.move = last.move;
      stage.dataset.longest = longest;
    }
    function redraw() {
      if (opening) shade.replaceChildren(...(shown.has("density") ? [density()] : []));
      draw();
    }
    Explain.redrawn(redraw);
    return {
      open(found) { opening = found; last = null; shade.replaceChildren(...(shown.has("density") ? [density()] : [])); },
      show(frame) { last = frame; draw(); },
      layers(found) { shown = new Set(found); redraw(); },
    };
  };

  /* A state in words. */
  const plain = {ring: "clouds", grid: "clouds", moons: "pieces of the moons", points: "drawn points"};
  Explain.play.words = function (frame, opening) {
    const s = frame.stats, kind = plain[opening.settings.data], said = [];
    if (!frame.finite) return "A loss is no longer a finite number: the game has diverged.";
    if (frame.modes !== undefined) {
      said.push(`G reaches ${frame.modes} of ${opening.centres} ${kind}: ${percent(frame.high_quality)} of its points lie within three spreads of a centre. ` +
        `Each counted for the nearest, they are spread as if over ${frame.effective === null ? "none" : frame.effective.toFixed(1)}.`);
    }
    if (s.d_real !== undefined) {
      said.push(opening.log_odds ? `D takes real points for real with ${percent(s.d_real)}, generated ones with ${percent(s.d_fake)}.`
        : `D's mean score is ${number(s.d_real, 2)} for real points, ${number(s.d_fake, 2)} for generated ones.`);
    }
    said.push(`A point's gradient has a mean length of ${number(frame.norm, 2)}.`);
    return said.join(" ");
  };
  Explain.play.place = function (frame, opening) {
    const rounds = frame.g_updates * opening.settings.d_steps === frame.d_updates, n = frame.g_updates;
    if (frame.move === 0) return "Before the first round";
    return rounds ? `After round ${n.toLocaleString("en")}` : `After ${frame.d_updates.toLocaleString("en")} updates of D and ${n.toLocaleString("en")} of G`;
  };

  /* Lines over the moves, named at their right ends. lines: [{name, of: entry => value, strong}]. */
  const WIDTH = 340, HEIGHT = 124, LEFT = 38, RIGHT = 104, TOP = 8, BOTTOM = 20;
  function lines(title, history, lines, scaled, most) {
    const end = Math.max(most, 1), x = Explain.linear(0, end, LEFT, WIDTH - RIGHT);
    const values = lines.flatMap(line => history.map(line.of)).filter(v => v !== null && v !== undefined && Number.isFinite(v));
    const {y, ticks} = scaled(values), latest = history[history.length - 1];
    const labels = lines.map(line => ({line, value: latest ? line.of(latest) : null})).filter(({value}) => value !== null && value !== undefined)
      .map(label => ({...label, at: y(label.value)})).sort((a, b) => a.at - b.at);
    labels.forEach((label, i) => { label.at = Math.max(label.at, i ? labels[i - 1].at + 13 : TOP + 4); });
    for (let i = labels.length - 1, floor = HEIGHT - BOTTOM; i >= 0; i--, floor -= 13) labels[i].at = Math.min(labels[i].at, floor);
    const told = labels.map(({line, value}) => `${line.name} ${number(value, 2)}`).join(", ");
    const gap = Math.ceil(history.length / 400);
    return html("div", {class: "chart"}, html("h4", {}, title), Explain.chart(WIDTH, HEIGHT, `${title}. Now: ${told || "nothing yet"}.`,
      ticks.map(t => [svg("line", {class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(t.value), y2: y(t.value)}),
        svg("text", {class: "quiet", x: LEFT - 5, y: y(t.value) + 4, "font-size": 11, "text-anchor": "end"}, t.text)]),
      svg("text", {class: "quiet", x: LEFT, y: HEIGHT - 5, "font-size": 11}, "0"),
      svg("text", {class: "quiet", x: WIDTH - RIGHT, y: HEIGHT - 5, "font-size": 11, "text-anchor": "end"}, `${end.toLocaleString("en")} move${end === 1 ? "" : "s"}`),
      lines.map(function (line) {
        let path = "", pen = "M";
        history.forEach(function (entry, i) {
          const value = line.of(entry);
          if (value === null || value === undefined || !Number.isFinite(value)) { pen = "M"; return; }
          if (i % gap && i !== history.length - 1) return;
          path += `${pen}${x(entry.move).toFixed(1)},${y(value).toFixed(1)}`; pen = "L";
        });
        return path ? svg("path", {class: line.strong ? "curve" : "thin", d: path}) : null;
      }),
      labels.map(({line, value, at}) => svg("text", {x: WIDTH - RIGHT + 6, y: at + 4, "font-size": 11, class: line.strong ? "" : "quiet", "font-weight": line.strong ? 600 : 400}, `${line.short || line.name} ${number(value, 2)}`))));
  }
  const linear = (low, high, ticks) => function () {
    return {y: Explain.linear(low, high, HEIGHT - BOTTOM, TOP), ticks: ticks.map(value => ({value, text: String(value)}))};
  };
  function logarithmic(values) {
    const [low, high] = Explain.decades(values, 8), y = Explain.log(low, high, HEIGHT - BOTTOM, TOP), ticks = [];
    const span = Math.round(Math.log10(high / low)), each = Math.ceil(span / 4);
    for (let k = 0; k <= span; k += each) ticks.push({value: low * 10 ** k, text: Explain.power(low * 10 ** k)});
    return {y, ticks};
  }
  function fitted(values) {
    const low = Math.min(0, ...values), high = Math.max(1, ...values), middle = Number(((low + high) / 2).toPrecision(1));
    return {y: Explain.linear(low, high, HEIGHT - BOTTOM, TOP), ticks: [low, middle, high].filter((v, i, all) => all.indexOf(v) === i).map(value => ({value, text: number(value, 2)}))};
  }

  Explain.play.charts = function (box, history, opening, most) {
    const own = opening.settings.cost, centres = opening.centres, ahead = opening.settings.unroll_steps > 0;
    const short = {"non-saturating": "non-sat.", "maximum-likelihood": "max. likelih."};
    const gradients = opening.log_odds
      ? COSTS.map(name => ({name, short: short[name], of: e => e.norms && e.norms[name], strong: name === own && !ahead}))
      : [];
    if (!opening.log_odds || ahead) gradients.unshift({name: ahead ? "with the updates ahead" : own, short: ahead ? "K ahead" : own, of: e => e.norm, strong: true});
    box.replaceChildren(
      lines(`Modes that the points are nearest to, of ${centres}`, history, [{name: "spread over", short: "spread", of: e => e.effective, strong: true}, {name: "reached", of: e => e.modes}], linear(0, centres, [0, centres]), most),
      lines("Mean length of a point's gradient ∂L/∂x", history, gradients, logarithmic, most),
      lines("Losses", history, [{name: "D", of: e => e.stats.d_loss, strong: true}, {name: "G", of: e => e.stats.g_loss}], fitted, most));
  };
})();
