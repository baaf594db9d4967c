"use strict";
/* (b) Where gradients flow: a row for each layer, with its gradient's norm and its update ratio over time. */
(function () {
  const {html, svg, number} = Explain;
  const WIDTH = 240, HEIGHT = 48, LEFT = 3, RIGHT = 3, TOP = 4, BOTTOM = 4;
  const PLAYERS = {discriminator: "The discriminator, in its own updates", generator: "The generator, in its own updates"};
  const last = values => values.reduce((found, v) => (v === null ? found : v), null);

  /* Where records stand: the time axis doubles from place to place, because early steps change most. */
  function timeAxis(section) {
    const place = section.steps.map(step => Math.log2(step + 1)), end = Math.max(...place) || 1;
    return r => LEFT + place[r] / end * (WIDTH - LEFT - RIGHT);
  }
  /* A tick for every doubling of the time, and names of some: whole epochs, or steps where there are no epochs. */
  function ticks(section) {
    const last = section.steps.length - 1, end = section.steps[last], epochs = section.epochs && section.epochs[last];
    const each = epochs ? end / epochs : 1, unit = epochs ? "epochs" : "steps";
    const at = time => LEFT + Math.log2(time * each + 1) / Math.log2(end + 1) * (WIDTH - LEFT - RIGHT);
    const marks = [], labels = [];
    for (let k = Math.ceil(-Math.log2(each)); end > 0 && 2 ** k * each <= end + 1e-6; k++) {
      marks.push(at(2 ** k));
      if (k >= 0) labels.push([at(2 ** k), (2 ** k).toLocaleString("en")]);
    }
    return {marks, labels: [...labels, [WIDTH, epochs ? String(Number(epochs.toFixed(1))) : end.toLocaleString("en")]], unit};
  }
  /* Hide labels that would touch their neighbours: the first and the last always stay. */
  function thinOut(times) {
    const labels = Array.from(times.children), boxes = labels.map(label => label.getBoundingClientRect()), last = labels.length - 1;
    let free = boxes[0].right + 4;
    labels.forEach(function (label, k) {
      const shown = k === 0 || k === last || (boxes[k].left >= free && boxes[k].right + 4 <= boxes[last].left);
      label.style.visibility = shown ? "" : "hidden";
      if (shown) free = boxes[k].right + 4;
    });
  }
  function path(x, y, values) {
    let open = false;
    return values.map(function (v, r) {
      if (v === null || v === undefined) { open = false; return ""; }
      const at = `${open ? "L" : "M"}${x(r).toFixed(1)},${y(v).toFixed(1)}`;
      open = true;
      return at;
    }).join("");
  }

  /* A small picture that fills its cell: lines keep their width, and words stand beside it as text of the page. */
  function cell(words, marks, labels) {
    const picture = svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": words}, marks);
    return html("div", {class: "cell"}, picture, html("div", {class: "values", "aria-hidden": "true"}, labels));
  }
  const rule = (name, at) => svg("line", {class: name, x1: 0, x2: WIDTH, y1: at, y2: at});

  /* The curves of a layer: its matrix strong, its bias or shift thin. */
  function small(section, x, y, curves, words, guides) {
    const marks = guides.map(at => rule("guide", y(at))), labels = [];
    curves.slice().reverse().forEach(function (curve, k) {
      const strong = k === curves.length - 1, known = curve.values.filter(v => v !== null).length, r = curve.values.findIndex(v => v !== null);
      if (known === 1) marks.push(svg("path", {class: strong ? "point" : "point pale", d: `M${x(r)},${y(curve.values[r])}h0`}));
      else marks.push(svg("path", {class: strong ? "curve" : "thin", d: path(x, y, curve.values)}));
    });
    for (const [k, curve] of curves.entries()) labels.push(html(k ? "span" : "b", {}, number(last(curve.values), 2)));
    return cell(words, [rule("axis", HEIGHT - 0.5), ...marks], labels.slice(0, 2));
  }

  /* A long name may break between its words and before its numbers. */
  const breakable = name => name.replace(/([a-z])(?=[A-Z][a-z])|(?=\()/g, "$1\u200b").replace(" → ", "\u00a0→\u00a0");
  const GREEK = {weight: "weights", bias: "biases"};
  function layersOf(player) {
    const groups = new Map();
    player.layers.forEach(function (name, i) {
      const cut = name.lastIndexOf("."), layer = cut < 0 ? name : name.slice(0, cut);
      if (!groups.has(layer)) groups.set(layer, []);
      groups.get(layer).push({i, what: GREEK[name.slice(cut + 1)] || name.slice(cut + 1)});
    });
    return [...groups];
  }

  function grid(section, name, x, scales) {
    const player = section.players[name], rows = [];
    rows.push(html("div", {class: "head"}), html("div", {class: "head"}, html("b", {}, "Gradient"), " ‖∂L/∂W‖"),
      html("div", {class: "head"}, html("b", {}, "Update"), " relative to the weights"));
    for (const [layer, arrays] of layersOf(player)) {
      const kind = (player.kinds || {})[layer];
      rows.push(html("div", {class: "layer"}, html("b", {}, breakable(kind ? `${layer} ${kind}` : layer)), kind ? null : html("span", {}, arrays.map(a => a.what).join(", "))));
      for (const metric of ["gradient_norm", "update_ratio"]) {
        const curves = arrays.map(a => ({what: a.what, values: player[metric][a.i]}));
        const words = `${name}.${layer}, ${metric.replace("_", " ")}: ` + curves.map(c => `${c.what} from ${number(c.values.find(v => v !== null), 2)} to ${number(last(c.values), 2)}`).join("; ");
        const guides = metric === "update_ratio" ? [1e-3] : [];
        rows.push(small(section, x, scales[metric], curves, words, guides));
      }
    }
    rows.push(html("div", {}), axis(section, scales.limits.gradient_norm), axis(section, scales.limits.update_ratio, true));
    return html("div", {}, html("h3", {}, PLAYERS[name]), html("div", {class: "flow-rows"}, ...rows));
  }
  /* The times under a column, and what its heights mean, if they have limits. */
  function axis(section, limits, guided) {
    const {marks, labels, unit} = ticks(section);
    const times = html("div", {class: "times"}, html("span", {}, "start"), labels.map(([at, words], k) => html("span", {class: k === labels.length - 1 ? "end" : "", style: k === labels.length - 1 ? null : `left: ${100 * at / WIDTH}%`}, words)));
    new ResizeObserver(() => thinOut(times)).observe(times);
    return html("div", {class: "axis-words"},
      svg("svg", {viewBox: `0 0 ${WIDTH} 6`, preserveAspectRatio: "none", "aria-hidden": "true"}, marks.map(at => svg("line", {class: "tick", x1: at, x2: at, y1: 0, y2: 6}))),
      times,
      html("p", {}, limits ? `Time in ${unit}. Height: ${Explain.power(limits[0])} to ${Explain.power(limits[1])}` + (guided ? "; dashes: 1/1000" : "") : unit));
  }

  /* How active the units are: dead and saturated shares as areas from 0 to 100 %, the spread as a curve. */
  function activity(section, name, x, spread) {
    const found = section.activations[name], rows = [html("div", {class: "head"}), html("div", {class: "head"}, html("b", {}, "Dead"), " units"),
      html("div", {class: "head"}, html("b", {}, "At their limits"), ", outputs"), html("div", {class: "head"}, html("b", {}, "Spread"), " of the outputs")];
    const share = Explain.linear(0, 1, HEIGHT - BOTTOM, TOP);
    found.layers.forEach(function (layer, i) {
      rows.push(html("div", {class: "layer"}, html("b", {}, breakable(layer))));
      for (const kind of ["dead", "saturated"]) {
        const values = found[kind][i], value = last(values), known = values.map((v, r) => [v, r]).filter(([v]) => v !== null);
        const words = `${name}.${layer}, ${kind}: ${value === null ? "does not apply" : Explain.percent(value)}`;
        const area = known.length ? `M${x(known[0][1])},${share(0)}` + known.map(([v, r]) => `L${x(r).toFixed(1)},${share(v).toFixed(1)}`).join("") + `L${x(known[known.length - 1][1])},${share(0)}Z` : "";
        rows.push(value === null ? html("div", {class: "cell quiet"}, "–") : cell(words, [rule("axis", share(0)), rule("axis", share(1)), svg("path", {class: "area", d: area})],
          [html(value > 0.1 ? "b" : "span", {}, Explain.percent(value))]));
      }
      rows.push(small(section, x, spread.scale, [{values: found.std[i]}], `${name}.${layer}, standard deviation: ${number(last(found.std[i]), 2)}`, []));
    });
    rows.push(html("div", {}), ...["dead", "saturated", "std"].map(kind => found[kind].some(values => last(values) !== null) ? axis(section) : html("div", {}, "\u00a0")));
    return html("div", {class: "flow-rows three"}, ...rows);
  }

  function table(section) {
    const head = ["Array", "‖∂L/∂W‖", "update ratio", "‖W‖"], rows = [];
    for (const [name, player] of Object.entries(section.players)) {
      player.layers.forEach((layer, i) => rows.push(html("tr", {"data-array": `${name}.${layer}`}, html("th", {scope: "row"}, `${name}.${layer}`),
        ...["gradient_norm", "update_ratio", "weight_norm"].map(metric => html("td", {"data-value": last(player[metric][i])}, number(last(player[metric][i]), 4))))));
    }
    return html("table", {}, html("thead", {}, html("tr", {}, ...head.map(h => html("th", {scope: "col"}, h)))), html("tbody", {}, ...rows));
  }

  Explain.figures.flow = function (section) {
    const x = timeAxis(section), scales = {limits: {}};
    for (const metric of ["gradient_norm", "update_ratio"]) {
      const values = Object.values(section.players).flatMap(player => player[metric].flat());
      const [low, high] = scales.limits[metric] = Explain.decades(metric === "update_ratio" ? [...values, 1e-3] : values, 8);
      scales[metric] = Explain.log(low, high, HEIGHT - BOTTOM, TOP);
    }
    const spreads = Explain.decades(Object.values(section.activations).flatMap(found => found.std.flat()), 8);
    const spread = {limits: spreads, scale: Explain.log(...spreads, HEIGHT - BOTTOM, TOP)};
    document.getElementById("flow-findings").append(...section.findings.map(finding => html("li", {}, Explain.words(Explain.set(`${finding.sentence} ${finding.verdict || ""}`.trim())))));
    const box = document.getElementById("flow-layers"), names = ["generator", "discriminator"].filter(name => section.players[name]);
    const thin = [...new Set(names.flatMap(name => layersOf(section.players[name]).flatMap(([, arrays]) => arrays.slice(1).map(array => array.what))))];
    box.append(html("p", {class: "caption"}, "A row is a layer, from input to output. Left the length of its gradient, right how far one step moved it. All heights of a column share one logarithmic " +
      "scale, so rows can be compared. Time runs to the right, and the early steps get the most room: each tick is at twice the time of the tick before. A strong line is the weights" + (thin.length ? `, a thin line the ${thin.join(" or ")}` : "") + "; the number is the last value."),
      html("div", {class: "two"}, ...names.map(name => grid(section, name, x, scales))));
    const active = names.filter(name => section.activations[name] && section.activations[name].layers.length);
    if (active.length) {
      box.append(html("h3", {}, "How active the units are"),
        html("p", {class: "caption"}, "Of each activation: the share of units that are 0 for every input, the share of outputs of tanh or sigmoid at their limits (beyond 0.97), both from 0 to 100\u00a0% (a dash: it cannot be), and the standard deviation of all " +
        `outputs (${Explain.power(spreads[0])} to ${Explain.power(spreads[1])}).`),
        html("div", {class: "two"}, ...active.map(name => html("div", {}, html("h4", {}, name), activity(section, name, x, spread)))));
    }
    document.getElementById("flow-table").append(table(section));
  };
})();
