"use strict";
/* The three costs of the generator on the same logits: curves with their slopes, and how hard each pulls. */
(function () {
  const {html, svg, chart, part, number, sigmoid, softplus} = Explain;
  const COSTS = {
    "minimax": {value: f => -softplus(f), slope: f => -sigmoid(f), formula: "log(1 − D(x))"},
    "non-saturating": {value: f => softplus(-f), slope: f => -sigmoid(-f), formula: "−log D(x)"},
    "maximum-likelihood": {value: f => -Math.exp(f), slope: f => -Math.exp(f), formula: "−D(x) / (1 − D(x))"},
  };
  const WIDTH = 320, HEIGHT = 210, LEFT = 34, RIGHT = 8, TOP = 10, BOTTOM = 36;

  function ticks(low, high, about) {
    const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
    const size = [1, 2, 5, 10].map(k => k * power).find(k => k >= rough), found = [];
    for (let t = Math.ceil(low / size) * size; t <= high + 1e-9; t += size) found.push(Math.abs(t) < 1e-12 ? 0 : t);
    return found;
  }

  /* One cost: its curve over the logit, a dot for each sample, and through each dot the tangent. */
  function panel(state, name, domain) {
    const cost = COSTS[name], [low, high] = domain;
    const ends = [cost.value(low), cost.value(high), 0].map(v => Math.max(v, -8));
    const bottom = Math.min(...ends), top = Math.max(...ends), margin = 0.06 * (top - bottom);
    const x = Explain.linear(low, high, LEFT, WIDTH - RIGHT), y = Explain.linear(bottom - margin, top + margin, HEIGHT - BOTTOM, TOP);
    const id = `clip-${name}`;
    const points = Array.from({length: 161}, (_, k) => low + k / 160 * (high - low));
    const path = points.map((f, k) => `${k ? "L" : "M"}${x(f).toFixed(1)},${Math.min(Math.max(y(cost.value(f)), -999), 999).toFixed(1)}`).join("");
    const dots = svg("g", {});
    const own = name === state.section.cost;
    const told = html("p", {class: "caption", "data-cost": name});
    const picture = chart(WIDTH, HEIGHT, "",
      svg("clipPath", {id}, svg("rect", {x: LEFT - 5, y: TOP - 5, width: WIDTH - LEFT - RIGHT + 10, height: HEIGHT - TOP - BOTTOM + 10})),
      ticks(low, high, 5).map(t => [svg("line", {class: "axis", x1: x(t), x2: x(t), y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4}),
        svg("text", {class: "quiet", x: x(t), y: HEIGHT - BOTTOM + 15, "font-size": 11, "text-anchor": "middle"}, number(t))]),
      ticks(bottom, top, 4).map(t => [svg("line", {class: "axis", x1: LEFT - 4, x2: LEFT, y1: y(t), y2: y(t)}),
        svg("text", {class: "quiet", x: LEFT - 7, y: y(t) + 4, "font-size": 11, "text-anchor": "end"}, number(t))]),
      svg("line", {class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM}),
      svg("text", {class: "quiet", x: LEFT, y: HEIGHT - 5, "font-size": 11}, "← D says generated"),
      svg("text", {class: "quiet", x: WIDTH - RIGHT, y: HEIGHT - 5, "font-size": 11, "text-anchor": "end"}, "logit f, real →"),
      svg("g", {"clip-path": `url(#${id})`}, svg("path", {class: "curve", d: path}), dots));
    const whole = html("div", {class: own ? "own" : ""}, html("h4", {}, name, " ", html("small", {}, cost.formula + (own ? " · this run's cost" : ""))), picture, told);
    whole.show = function (r, chosen, k) {
      const logits = Array.from(part(state.logits, r).values), n = logits.length;
      const slopes = Array.from(part(state.slopes, r, k).values, s => n * s); // of an image's own cost, not of the mean over n
      dots.replaceChildren(...logits.map(function (f, i) {
        const cx = Math.min(Math.max(x(f), LEFT), WIDTH - RIGHT), cy = Math.min(Math.max(y(cost.value(f)), TOP), HEIGHT - BOTTOM);
        const across = x(1) - x(0), down = (y(1) - y(0)) * slopes[i], size = Math.hypot(across, down) || 1;
        const reach = i === chosen ? 70 : 40, dx = reach * across / size, dy = reach * down / size;
        return svg("line", {class: i === chosen ? "tangent chosen" : "tangent", x1: cx - dx, x2: cx + dx, y1: cy - dy, y2: cy + dy});
      }), ...logits.map((f, i) => svg("circle", {class: i === chosen ? "dot chosen" : "dot", r: i === chosen ? 4.4 : 3.4,
        cx: Math.min(Math.max(x(f), LEFT), WIDTH - RIGHT), cy: Math.min(Math.max(y(cost.value(f)), TOP), HEIGHT - BOTTOM)})));
      dots.append(dots.children[chosen], dots.children[n + chosen]); // the chosen sample's lie on top
      const typical = Explain.mean(slopes.map(Math.abs));
      told.replaceChildren("Mean slope: ", html("b", {}, number(typical === 0 ? 0 : -typical, 2)),
        typical < 0.05 ? ". Flat: the message is lost." : typical < 0.5 ? ". Less steep: part of the message gets through." : ". Steep: the message gets through.");
      told.dataset.slope = typical;
      picture.setAttribute("aria-label", `The ${name} cost over the logit, with ${n} samples at logits from ${number(Math.min(...logits), 2)} to ` +
        `${number(Math.max(...logits), 2)}; mean slope ${number(-typical, 2)}.`);
    };
    return whole;
  }

  /* How long the gradient at each image is under the three costs: a row for each, on one logarithmic scale. */
  function strip(state) {
    const names = state.section.costs, [low, high] = Explain.decades(state.norms.values, 14);
    const width = Explain.narrow() ? 330 : 480, height = 34, x = Explain.log(low, high, 12, width - 12), every = Math.ceil(Math.log10(high / low) / (width / 80)), powers = [];
    for (let p = Math.log10(low); p <= Math.log10(high) + 1e-9; p += every) powers.push(10 ** p);
    const lines = () => powers.map(p => svg("line", {class: "axis", x1: x(p), x2: x(p), y1: 0, y2: height}));
    const rows = names.map(function (name) {
      const marks = svg("g", {}), picture = chart(width, height, "", lines(), marks), value = html("b", {"data-mean": name});
      return {marks, picture, value, name: html("span", {style: name === state.section.cost ? "font-weight: 600" : ""}, name)};
    });
    const axis = svg("svg", {viewBox: `0 0 ${width} 18`, "aria-hidden": "true"}, powers.map(p => svg("text", {class: "quiet", x: x(p), y: 12, "font-size": 12, "text-anchor": "middle"}, Explain.power(p))));
    const whole = html("div", {class: "strip"}, rows.map(row => [row.name, row.picture, row.value]), html("span", {class: "scale-only"}), axis, html("span", {class: "scale-only"}));
    whole.show = function (r, chosen) {
      return names.map(function (name, k) {
        const values = Array.from(part(state.norms, r, k).values), mean = Explain.mean(values), y = height / 2, row = rows[k];
        row.marks.replaceChildren(svg("line", {class: "curve", x1: x(mean), x2: x(mean), y1: y - 13, y2: y + 13}),
          ...values.map((v, i) => svg("circle", {class: i === chosen ? "dot chosen" : "dot", cx: x(v), cy: y, r: i === chosen ? 5 : 4, "data-norm": v})));
        row.marks.append(row.marks.children[chosen + 1]);
        row.value.textContent = number(mean, 2);
        row.picture.setAttribute("aria-label", Explain.words(`${name}: the length of the gradient at an image, mean ${number(mean, 2)}`));
        return mean;
      });
    };
    return whole;
  }

  Explain.costs = function (state) {
    const logits = state.logits.values.reduce((a, b) => [Math.min(a[0], b), Math.max(a[1], b)], [-5, 5]);
    const domain = [Math.max(logits[0], -40) - 0.5, Math.min(logits[1], 40) + 0.5];
    const panels = state.section.costs.map(name => panel(state, name, domain)), pulls = strip(state), told = html("p", {class: "caption"});
    const whole = html("div", {}, html("h3", {}, "Three costs on the same logits"),
      html("p", {class: "caption"}, "Each dot is one of the samples above, the filled one the chosen sample; the blue line through it has the slope of the cost there. The generator learns through this slope: " +
        "where a curve is flat, D is sure and the generator hears nothing. That is saturation. Maximum likelihood, the usual aim of statistics, stands beside the two for comparison: it listens most to the samples that D takes for real."),
      html("div", {class: "panels"}, ...panels),
      html("h3", {}, Explain.words("How hard each cost pulls at the images")), told, pulls);
    whole.show = function (r, chosen) {
      panels.forEach((one, k) => one.show(r, chosen, k));
      const means = pulls.show(r, chosen), names = state.section.costs;
      const ratio = means[names.indexOf("non-saturating")] / means[names.indexOf("minimax")];
      told.replaceChildren(Explain.words("The length of ∂L/∂x at each of the same images, on a logarithmic scale. The stroke and the number are the mean. "),
        html("b", {}, ratio > 1 / 1.05 && ratio < 1.05 ? "At this record, minimax and non-saturating pull equally hard." : ratio < 1 ? `At this record, minimax pulls ${number(1 / ratio, 2)} times as hard as non-saturating.`
          : Number.isFinite(ratio) ? `At this record, non-saturating pulls ${number(ratio, 2)} times as hard as minimax.` : "At this record, minimax does not pull at all."));
    };
    return whole;
  };
})();
