"use strict";
/* (b) Where gradients flow: a row for each layer, with its gradient's norm and its update ratio over time. */
(function () {
  const {html, svg, chart, number} = Explain;
  const WIDTH = 240, HEIGHT = 62, LEFT = 4, RIGHT = 58, TOP = 6, BOTTOM = 6;
  const PLAYERS = {discriminator: "The discriminator, in its own updates", generator: "The generator, in its own updates"};
  const last = values => values.reduce((found, v) => (v === null ? found : v), null);

  /* Where records stand: the time axis doubles from place to place, because early steps change most. */
  function timeAxis(section) {
    const place = section.steps.map(step => Math.log2(step + 1)), end = Math.max(...place) || 1;
    return r => LEFT + place[r] / end * (WIDTH - LEFT - RIGHT);
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

  /* The curves of a layer: its matrix strong, its bias or shift thin. */
  function small(section, x, y, curves, words, guides) {
    const marks = guides.map(g => svg("line", {class: g.strong ? "guide" : "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(g.at), y2: y(g.at)}));
    const labels = [];
    curves.forEach(function (curve, k) {
      const value = last(curve.values);
      marks.push(svg("path", {class: k ? "thin" : "curve", d: path(x, y, curve.values)}));
      const single = curve.values.filter(v => v !== null).length === 1, r = curve.values.findIndex(v => v !== null);
      if (single) marks.push(svg("circle", {class: "dot", cx: x(r), cy: y(value), r: 2.5}));
      if (value !== null) labels.push({y: y(value) + 4, text: number(value, 2), quiet: k > 0});
    });
    labels.sort((a, b) => a.y - b.y);
    for (let k = 1; k < labels.length; k++) labels[k].y = Math.max(labels[k].y, labels[k - 1].y + 12);
    const over = labels.length ? labels[labels.length - 1].y - (HEIGHT - 1) : 0;
    if (over > 0) labels.forEach(label => { label.y -= over; });
    marks.push(...labels.map(l => svg("text", {x: WIDTH - RIGHT + 5, y: l.y, "font-size": 11, class: l.quiet ? "quiet" : ""}, l.text)));
    return chart(WIDTH, HEIGHT, words, marks);
  }

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
      rows.push(html("div", {class: "layer"}, html("b", {}, layer), html("span", {}, arrays.map(a => a.what).join(", "))));
      for (const metric of ["gradient_norm", "update_ratio"]) {
        const curves = arrays.map(a => ({what: a.what, values: player[metric][a.i]}));
        const words = `${name}.${layer}, ${metric.replace("_", " ")}: ` + curves.map(c => `${c.what} from ${number(c.values.find(v => v !== null), 2)} to ${number(last(c.values), 2)}`).join("; ");
        const guides = metric === "update_ratio" ? [{at: 1e-3, strong: true}] : [];
        rows.push(small(section, x, scales[metric], curves, words, guides));
      }
    }
    rows.push(html("div", {}), axis(section, x, scales.limits.gradient_norm), axis(section, x, scales.limits.update_ratio, true));
    return html("div", {}, html("h3", {}, PLAYERS[name]), html("div", {class: "flow-rows"}, ...rows));
  }
  function axis(section, x, limits, guided) {
    const end = section.steps.length - 1, epoch = section.epochs && section.epochs[end];
    const words = epoch ? `epoch ${Number(epoch.toFixed(1))}` : `step ${section.steps[end].toLocaleString("en")}`;
    return chart(WIDTH, 30, "", svg("line", {class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: 1, y2: 1}),
      svg("text", {class: "quiet", x: LEFT, y: 13, "font-size": 10.5}, "start"),
      svg("text", {class: "quiet", x: WIDTH - RIGHT, y: 13, "font-size": 10.5, "text-anchor": "end"}, words),
      svg("text", {class: "quiet", x: LEFT, y: 27, "font-size": 10.5}, `height: ${Explain.power(limits[0])} to ${Explain.power(limits[1])}` + (guided ? ", dashes at 1/1000" : "")));
  }

  /* How active the units are: dead and saturated shares as areas from 0 to 100 %, the spread as a curve. */
  function activity(section, name, x, spread) {
    const found = section.activations[name], rows = [html("div", {class: "head"}), html("div", {class: "head"}, html("b", {}, "Dead"), " units"),
      html("div", {class: "head"}, html("b", {}, "Saturated"), " outputs"), html("div", {class: "head"}, html("b", {}, "Spread"), " of the outputs")];
    const share = Explain.linear(0, 1, HEIGHT - BOTTOM, TOP);
    found.layers.forEach(function (layer, i) {
      rows.push(html("div", {class: "layer"}, html("b", {}, layer)));
      for (const kind of ["dead", "saturated"]) {
        const values = found[kind][i], value = last(values), known = values.map((v, r) => [v, r]).filter(([v]) => v !== null);
        const words = `${name}.${layer}, ${kind}: ${value === null ? "does not apply" : Explain.percent(value)}`;
        const area = known.length ? `M${x(known[0][1])},${share(0)}` + known.map(([v, r]) => `L${x(r).toFixed(1)},${share(v).toFixed(1)}`).join("") + `L${x(known[known.length - 1][1])},${share(0)}Z` : "";
        rows.push(chart(WIDTH, HEIGHT, words, svg("line", {class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: share(0), y2: share(0)}),
          svg("line", {class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: share(1), y2: share(1)}),
          value === null ? null : [svg("path", {class: "area", d: area}), svg("text", {x: WIDTH - RIGHT + 5, y: Math.min(share(value) + 4, HEIGHT - 3), "font-size": 11, class: value > 0.1 ? "" : "quiet"}, Explain.percent(value))]));
      }
      rows.push(small(section, x, spread.scale, [{values: found.std[i]}], `${name}.${layer}, standard deviation: ${number(last(found.std[i]), 2)}`, []));
    });
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
    document.getElementById("flow-findings").append(...(section.findings.length ? section.findings : [{sentence: "No layer vanishes, explodes, dies or saturates."}])
      .map(finding => html("li", {}, finding.sentence)));
    const box = document.getElementById("flow-layers"), names = ["generator", "discriminator"].filter(name => section.players[name]);
    box.append(html("p", {class: "caption"}, "A row is a layer, from input to output. Left the length of its gradient, right how far one step moved it. All heights of a column share one logarithmic " +
      "scale, so rows can be compared. Time doubles from tick to tick. A strong line is the weights, thin ones are the rest; the number is the last value."),
      html("div", {class: "two"}, ...names.map(name => grid(section, name, x, scales))));
    const active = names.filter(name => section.activations[name] && section.activations[name].layers.length);
    if (active.length) {
      box.append(html("h3", {}, "How active the units are"),
        html("p", {class: "caption"}, "Of each activation: the share of units that are 0 for every input, the share of outputs of tanh or sigmoid beyond 0.97, both from 0 to 100 %, and the standard deviation of all " +
        `outputs (${Explain.power(spreads[0])} to ${Explain.power(spreads[1])}).`),
        html("div", {class: "two"}, ...active.map(name => html("div", {}, html("h4", {}, name), activity(section, name, x, spread)))));
    }
    document.getElementById("flow-table").append(table(section));
  };
})();
