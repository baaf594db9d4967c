"use strict";
/* (c) The tape: which weights an update fills, and the ops of both updates, one at a time, forward and backward. */
(function () {
  const {html, svg, array, part, number} = Explain;
  const HEAD = 46; // about the height of a layer's name in the list
  const pathOf = layer => (layer || "").split(" ")[0];
  const isOp = node => node.kind === undefined || node.kind === "op";
  const plain = layer => (layer || "").replace("->", "→").replace("()", "");
  const nameOf = layer => plain(layer.split(" ").slice(1).join(" ") || layer);
  /* A word or two on what stands outside of the networks, and a line on ops and values whose names do not explain themselves. */
  const CHIPS = {"given": "data, latents", "concatenate": "one batch", "concatenate, unpacked": "one batch; weights of D's copy", "bce_with_logits": "D's loss", "the loss": "one number", "D's update ahead": "on a copy of D", "unpacked": "weights of D's copy", "gradient, recorded": "D's, as ops"};
  const NOTES = {
    "start of grad": "The gradient that grad begins with: ∂L/∂L = 1.",
    "concatenate": "The inputs one after the other, as one array.",
    "pack": "All gradients in one long row, so that the optimiser updates all weights at once.",
    "unpacked": "One array of weights, cut out of the long row that holds them all.",
    "advance": "One update of D's copy by its optimiser. The training's own update comes later.",
    "bce_with_logits": "x: the logits. t: the answer that is wanted, 1 for real and 0 for generated. n: how many logits there are.",
  };

  /* The rows of a round in runs of the same layer. */
  function groupsOf(round) {
    const groups = [];
    round.nodes.forEach(function (node, r) {
      const title = node.layer || "", previous = groups[groups.length - 1];
      if (previous && previous.title === title) previous.rows.push(r);
      else groups.push({title, rows: [r]});
    });
    groups.forEach(function (group, g) {
      const outside = group.title === "", given = group.rows.every(r => !isOp(round.nodes[r]));
      if (outside) {
        const names = [...new Set(group.rows.map(r => round.nodes[r]).filter(isOp).map(node => node.op))];
        group.title = g === groups.length - 1 ? "the loss" : given ? "given" : names.includes("advance") ? "D's update ahead" : names.slice(0, 2).join(", ") + (names.length > 2 ? " …" : "");
      }
      group.network = /^\w+\.\S+ \S/.test(group.title); // "generator.3 Dense(512 -> 1024)"
      const path = pathOf(group.title);
      group.leaves = round.leaves.filter(leaf => leaf.name.startsWith(path + "."));
      const nodes = group.rows.map(r => round.nodes[r]);
      group.reached = nodes.some(node => node.gradient);
      group.filled = group.leaves.some(leaf => leaf.gets_gradient);
      group.cut = nodes.some(node => (round.taken_as_constants || []).includes(node.id));
      group.player = path.split(".")[0];
    });
    return groups;
  }

  /* One update as a row of layers: filled where its weights get a gradient, open where the gradient only passes, dashed
     where it does not come. */
  function overview(round) {
    const seen = new Map();
    let run = 0; // after D's update ahead, its layers run again
    for (const group of groupsOf(round)) {
      if (group.title === "D's update ahead") run += 1;
      const key = `${group.network ? run : 0} ${group.title}`, known = seen.get(key);
      if (known) { known.reached = known.reached || group.reached; known.filled = known.filled || group.filled; known.cut = known.cut || group.cut; } else seen.set(key, {...group});
    }
    const chips = [...seen.values()].flatMap(function (group) {
      const state = group.filled ? "filled" : group.reached ? "open" : "constant";
      const words = group.filled ? "its weights get a gradient" : !group.reached ? "no gradient comes here"
        : group.leaves.length ? "the gradient passes, its weights get none" : "the gradient passes";
      const chip = html("li", {class: `chip ${state}`, "aria-label": `${group.title}: ${words}`},
        html("small", {}, group.network ? pathOf(group.title) : CHIPS[group.title] || "\u00a0"), html("span", {}, group.network ? nameOf(group.title) : group.title));
      return group.cut ? [chip, html("li", {class: "cut"}, Explain.words("images, taken as constants"))] : [chip];
    });
    const got = round.leaves.filter(leaf => leaf.gets_gradient), players = [...new Set(round.leaves.map(leaf => leaf.player))];
    const counts = players.map(player => `${got.filter(leaf => leaf.player === player).length} of the ${player}'s ${round.leaves.filter(leaf => leaf.player === player).length} arrays (weights and biases)`);
    return html("div", {class: "overview"}, html("h4", {}, round.name[0].toUpperCase() + round.name.slice(1), " ", html("small", {}, `gives gradients to ${counts.join(" and ")}`)),
      html("ol", {class: "chips"}, ...chips), round.note ? html("p", {class: "caption"}, round.note) : null);
  }

  /* A value or gradient as it is best seen: a number, a table, a picture, or a summary. */
  function shown(value, title, signed, missing) {
    if (!value) return html("div", {}, html("h4", {}, title), html("p", {class: "caption"}, missing));
    const inside = [];
    if (value.kind === "number") inside.push(html("p", {class: "big", "data-value": value.value}, number(value.value, 4)));
    else if (value.kind === "small") inside.push(table(value.values));
    else if (value.kind === "image") inside.push(pictures(value, signed));
    else inside.push(histogram(value));
    if (value.kind === "image" || value.kind === "summary") {
      inside.push(html("p", {class: "caption"}, ["mean", "std", "min", "max"].filter(name => value[name] !== undefined).map(name => `${name} ${number(value[name], 3)}`).join(" · ")));
    }
    const broad = value.kind === "small" && [value.values].flat(Infinity).length > 2 * (value.values.length || 1);
    return html("div", {"data-kind": value.kind, class: broad ? "broad" : ""}, html("h4", {}, title), ...inside);
  }
  function table(values) {
    const rows = Array.isArray(values) ? (Array.isArray(values[0]) ? values : [values]) : [[values]];
    return html("div", {class: "scroll"}, html("table", {class: "small"}, html("tbody", {}, ...rows.map(row => html("tr", {}, ...[row].flat(Infinity).map(v => html("td", {"data-value": v, class: v < 0 ? "neg" : v > 0 ? "pos" : ""}, number(v, 2))))))));
  }
  function pictures(value, signed) {
    const images = array(value.images), most = Math.min(images.shape[0], 4), largest = Math.max(Math.abs(value.min), Math.abs(value.max)) || 1;
    return html("div", {class: "thumbs"}, ...Array.from({length: most}, function (_, i) {
      const image = part(images, i), canvas = Explain.canvas(image.shape[1], image.shape[2], {"aria-hidden": "true"});
      Explain.redrawn(function () {
        if (!signed) return Explain.paintImage(canvas, image);
        Explain.paintSigned(canvas, {shape: image.shape, values: Array.from(image.values, v => (value.min + v / 255 * (value.max - value.min)))}, largest);
      });
      return canvas;
    }));
  }
  function histogram(value) {
    const counts = value.histogram.counts || value.histogram, edges = value.histogram.edges || [value.min, value.max];
    const most = Math.max(...counts) || 1, width = 220, height = 62, each = width / counts.length, low = edges[0], high = edges[edges.length - 1];
    return svg("svg", {viewBox: `0 0 ${width} ${height + 16}`, class: "histogram", role: "img", "aria-label": `Histogram from ${number(low)} to ${number(high)}`},
      ...counts.map((count, k) => svg("rect", {x: k * each + 0.5, width: each - 1, y: height - height * count / most, height: height * count / most,
        class: (low + (k + 0.5) / counts.length * (high - low)) < 0 ? "fill-neg" : "fill-pos"})),
      svg("line", {class: "axis", x1: 0, x2: width, y1: height, y2: height}),
      svg("text", {class: "quiet", x: 0, y: height + 13, "font-size": 10}, number(low, 2)), svg("text", {class: "quiet", x: width, y: height + 13, "font-size": 10, "text-anchor": "end"}, number(high, 2)));
  }

  function panel(node, back) {
    const size = node.shape.length ? node.shape.join(" × ") : "one number", formula = node.formula || {};
    const kinds = {parameter: "a weight", constant: "given: it was there before", input: "an input"}, kind = kinds[node.kind];
    const note = NOTES[node.op], ran = node.visited !== null && node.visited !== undefined;
    const line = (title, text) => text ? [html("h4", {}, title), html("p", {class: "formula"}, text)] : null;
    return [html("p", {class: "where"}, [plain(node.layer), kind, node.constant ? "a constant to grad: no gradient goes back through it" : null].filter(Boolean).join(" · ")), html("h3", {}, node.op, " ", html("small", {}, size)),
      note ? html("p", {class: "caption"}, note) : null,
      html("div", {class: "sides"}, shown(node.value, "Value y", false), shown(back ? node.gradient : null, "Gradient ȳ = ∂L/∂y", true, node.gradient ? "Not known yet: it comes on the way back." : "None: no gradient comes here.")),
      line("Forward", formula.forward), line(ran ? "Backward, the vjp" : "Backward, the vjp (not part of this pass back)", formula.vjp), line("In this run", back ? formula.with_numbers : ran ? "Not known yet: the numbers come with the gradient, on the way back." : ""),
      node.file ? html("p", {class: "caption"}, "Computed in ", html("code", {}, `${node.file}:${node.line}`), node.vjp_file ? [", its vjp in ", html("code", {}, `${node.vjp_file}:${node.vjp_line}`)] : null) : null];
  }

  /* The stepper of a round. The first places are the ops, forward; the rest are the ops in the order of the pass back. */
  function stepper(round) {
    const nodes = round.nodes, row = new Map(nodes.map((node, r) => [node.id, r])), groups = groupsOf(round);
    const rows = nodes.map(node => ({parents: (node.parents || []).filter(p => row.has(p)).map(p => row.get(p))}));
    const every = nodes.map((_, r) => r), ops = every.filter(r => isOp(nodes[r]));
    const visits = every.filter(r => nodes[r].visited !== null && nodes[r].visited !== undefined).sort((a, b) => nodes[a].visited - nodes[b].visited);
    const order = new Map(visits.map((r, k) => [r, k])), arrives = new Map(order);
    for (const r of visits) for (const p of rows[r].parents) if (!order.has(p) && nodes[p].gradient && !arrives.has(p)) arrives.set(p, order.get(r));
    const places = [...ops.map(r => ({r, back: false})), ...visits.map(r => ({r, back: true}))];
    const items = groups.flatMap(function (group) {
      const pills = group.leaves.map(leaf => html("span", {class: leaf.gets_gradient ? "pill filled" : "pill", title: leaf.gets_gradient ? "gets a gradient" : "gets no gradient"},
        leaf.name.slice(pathOf(group.title).length + 1), html("span", {class: "hidden"}, leaf.gets_gradient ? " gets a gradient" : " gets no gradient")));
      return [html("div", {class: "group", role: "presentation"}, html("b", {}, plain(group.title)), html("span", {class: "pills"}, ...pills)),
        ...group.rows.map(r => html("div", {class: "op", id: `${round.key}-${r}`, role: "option", "aria-selected": "false", "data-row": r, onclick: () => look(r)},
          html("span", {}, nodes[r].op), html("small", {}, nodes[r].shape.join(" × "))))];
    });
    const options = new Map(items.filter(item => item.dataset.row !== undefined).map(item => [+item.dataset.row, item]));
    const lanes = Explain.lanes(rows), inner = html("div", {class: "tape-inner", style: `padding-left: ${Explain.tapeWidth(lanes)}px`}, ...items);
    const list = html("div", {class: "tape-list", tabindex: 0, role: "listbox", "aria-label": `Ops of the ${round.name}. Arrow keys step one op at a time.`}, inner);
    let lines = null, tops = [];
    /* Draw the lines beside the rows, wherever these stand: names break where the page is narrow. */
    function connect() {
      if (!inner.offsetHeight) return; // (not shown yet)
      tops = every.map(r => options.get(r).offsetTop + options.get(r).offsetHeight / 2);
      const drawn = Explain.tapeLines(rows, lanes, tops, inner.offsetHeight);
      if (lines) lines.picture.replaceWith(drawn.picture); else inner.prepend(drawn.picture);
      lines = drawn;
      mark();
    }
    new ResizeObserver(connect).observe(inner);
    const side = html("div", {class: "panel"}), state = html("p", {class: "state", "aria-live": "polite"});
    let at = 0, current = places[0], here = current.r;
    const button = (text, to, label) => html("button", {type: "button", "aria-label": label, onclick: () => go(to())}, text);
    const lossAt = ops.length - 1;
    const buttons = [button("⇤ start", () => 0, "To the first op"), button("← previous op", () => at - 1, "Previous op"), button("next op →", () => at + 1, "Next op"), button("loss", () => lossAt, "To the loss"), button("end ⇥", () => places.length - 1, "To the last op of the backward pass")];
    const range = html("input", {type: "range", min: 0, max: places.length - 1, value: 0, "aria-label": `Place on the tape of the ${round.name}`, oninput: event => go(+event.target.value)});
    const share = lossAt / Math.max(places.length - 1, 1), place = html("div", {class: "place", "aria-hidden": "true"},
      html("span", {}, "forward"), html("span", {class: "loss", style: `left: calc(8px + ${share} * (100% - 16px))`}, "loss"), html("span", {class: "back"}, visits.length ? "backward" : ""));

    /* What a click on a row does: go where its op runs or is visited. Weights and data are no ops; they are shown where
       their gradient arrives, or where they are used. */
    function look(r) {
      if (arrives.has(r) && (current.back || !isOp(nodes[r]))) return go(ops.length + arrives.get(r), r);
      const user = isOp(nodes[r]) ? r : every.find(other => rows[other].parents.includes(r) && isOp(nodes[other]));
      go(Math.max(ops.indexOf(user), 0), r);
    }
    /* The state of every row, dot and line at this place. */
    function mark() {
      const done = current.back ? at - ops.length : -1;
      nodes.forEach(function (node, r) {
        const computed = current.back || r <= current.r || !isOp(node), visited = arrives.has(r) && arrives.get(r) <= done;
        if (lines) lines.dots[r].setAttribute("class", `node${node.constant ? " constant" : ""}${computed ? " computed" : ""}${visited ? " visited" : ""}${r === here ? " here" : ""}`);
        options.get(r).className = `op${computed ? " computed" : ""}${r === here ? " here" : ""}${isOp(node) ? "" : " given"}`;
        options.get(r).setAttribute("aria-selected", String(r === here));
      });
      for (const edge of lines ? lines.edges : []) {
        const passed = order.has(edge.to) && order.get(edge.to) <= done && nodes[edge.from].gradient;
        edge.setAttribute("class", `edge${nodes[edge.from].constant ? " constant" : ""}${current.back || edge.to <= current.r ? " computed" : ""}${passed ? " passed" : ""}`);
      }
    }
    function go(to, showing) {
      at = Math.min(Math.max(to, 0), places.length - 1);
      current = places[at];
      here = showing === undefined ? current.r : showing;
      mark();
      range.value = at;
      const node = nodes[current.r], words = `${current.back ? `Backward, op ${at - ops.length + 1} of ${visits.length}` : `Forward, op ${at + 1} of ${ops.length}`}: ${node.op}${node.layer ? ` in ${plain(node.layer)}` : ""}`;
      state.textContent = words + ".";
      range.setAttribute("aria-valuetext", words);
      buttons[0].disabled = buttons[1].disabled = at === 0;
      buttons[2].disabled = buttons[4].disabled = at === places.length - 1;
      list.setAttribute("aria-activedescendant", `${round.key}-${here}`);
      side.replaceChildren(...panel(nodes[here], current.back).flat().filter(Boolean));
      const top = tops[here];
      if (top < list.scrollTop + HEAD || top > list.scrollTop + list.clientHeight - HEAD) list.scrollTop = top - list.clientHeight / 2;
    }
    list.addEventListener("keydown", function (event) {
      const move = {ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9}[event.key];
      if (move) { event.preventDefault(); go(at + move); }
    });
    const whole = html("div", {class: "stepper"}, html("div", {class: "buttons"}, ...buttons), range, place, state, html("div", {class: "tape-two"}, list, side));
    whole.start = () => { connect(); go(0); };
    whole.go = to => go(to);
    whole.at = () => at;
    whole.places = places.length;
    whole.words = () => state.textContent;
    return whole;
  }

  /* Returns the steppers of the updates, and a function that shows one of them. */
  Explain.figures.tape = function (section) {
    section.rounds.forEach((round, k) => { round.key = `round-${k}`; });
    const ahead = section.rounds.some(round => round.nodes.some(node => node.op === "advance"));
    document.getElementById("tape-overview").replaceChildren(section.mean ? html("p", {class: "caption"}, Explain.words(section.mean)) : "", html("p", {class: "caption"}, html("span", {class: "chip filled sampler"}, "filled"), " the layer's weights get a gradient. ",
      html("span", {class: "chip open sampler"}, "open"), " the gradient passes through, but no weights get one. ", html("span", {class: "chip constant sampler"}, "dashed"), " no gradient comes here. The line under the layers is how far the gradient goes back from the loss, which stands last."),
      ...section.rounds.map(overview), html("p", {class: "caption after"}, html("b", {}, "At the double bar"), Explain.words(" the generated images come in as plain numbers; other libraries call this detach. Without it, the update of D would go " +
      "back into the generator for nothing, because only D's weights are changed then. In the update of G there is no bar: it needs the gradient at the images, and gets it through D" + (ahead ? ": " +
      "through the copy of D after its update ahead, and through that update itself. Only the copy's weights are changed; D's own stay as they are." : ", whose weights stay as they are."))));
    const box = document.getElementById("tape-stepper"), whole = section.rounds.map(stepper);
    const tabs = section.rounds.map((round, k) => html("button", {type: "button", "aria-pressed": "false", onclick: () => choose(k)}, round.name[0].toUpperCase() + round.name.slice(1)));
    function choose(k) {
      tabs.forEach((tab, j) => tab.setAttribute("aria-pressed", String(j === k)));
      whole.forEach((one, j) => { one.hidden = j !== k; });
      whole[k].start();
    }
    box.replaceChildren(html("h3", {}, "One op at a time"), html("p", {class: "caption"}, "The ops in the order in which they ran, on a batch of 2; a line leads from a value to where it is used. Step with the buttons, or with the arrow keys: " +
      "first forward to the loss, then back. Going back, a filled dot has got its gradient and a thick line has passed it on. Beside a layer's name stand its weights: filled if this update gives them a gradient."), html("div", {class: "buttons tabs", role: "group", "aria-label": "Which update"}, ...tabs), ...whole);
    choose(0);
    return {whole, choose};
  };
})();
