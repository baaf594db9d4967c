"use strict";
/* (a) What the discriminator tells the generator: samples, gradients, one step along them, logits; over the epochs. */
(function () {
  const {html, svg, chart, array, part, number, percent, sigmoid} = Explain;
  const STEP = 0.25; // of the range from black to white: the largest change of a pixel in the pictures of a step

  /* A bar from 0 to the logit, on a scale that is the same for all. */
  function bar(largest) {
    const box = svg("svg", {viewBox: "0 0 100 8", class: "bar", "aria-hidden": "true", preserveAspectRatio: "none"});
    const rect = svg("rect", {y: 1, height: 6}), zero = svg("line", {x1: 50, x2: 50, y1: 0, y2: 8, class: "axis"});
    box.append(zero, rect);
    box.show = function (value) {
      const width = 48 * Math.min(Math.abs(value) / largest, 1);
      rect.setAttribute("x", value < 0 ? 50 - width : 50);
      rect.setAttribute("width", Math.max(width, 0.6));
      rect.setAttribute("class", value < 0 ? "fill-neg" : "fill-pos");
    };
    return box;
  }

  /* One sample: its image, gradient and step above each other, and the logit as a number and as a bar. */
  function cell(state, i) {
    const [, , , height, width] = state.images.shape;
    const canvases = [0, 1, 2].map(() => Explain.canvas(height, width, {"aria-hidden": "true"}));
    const scale = html("span", {class: "scale"}), logit = html("span", {class: "logit"}), real = html("span", {class: "real"});
    const line = bar(state.largest);
    const button = html("button", {class: "sample", type: "button", "aria-pressed": "false", onclick: () => state.choose(i)},
      canvases[0], canvases[1], scale, canvases[2], logit, line, real);
    button.show = function (r) {
      const image = part(state.images, r, i), gradient = part(state.gradient, r, i);
      const f = part(state.logits, r).values[i], size = part(state.scale, r).values[i];
      Explain.paintImage(canvases[0], image);
      Explain.paintSigned(canvases[1], gradient);
      Explain.paintStep(canvases[2], image, gradient, STEP);
      scale.textContent = number(size, 2);
      logit.textContent = Explain.logit(f);
      logit.className = `logit ${f < 0 ? "neg" : "pos"}`;
      real.textContent = state.costs ? percent(sigmoid(f)) : "";
      line.show(f);
      button.dataset.logit = f; button.dataset.scale = size;
      button.setAttribute("aria-label", `Sample ${i + 1}: logit ${Explain.logit(f)}` +
        (state.costs ? `, ${percent(sigmoid(f))} real` : "") + `, largest gradient ${number(size, 2)}`);
    };
    return button;
  }

  function gallery(state) {
    const n = state.logits.shape[1], cells = Array.from({length: n}, (_, i) => cell(state, i));
    const key = html("div", {class: "key", "aria-hidden": "true"},
      html("span", {class: "k1"}, html("b", {}, "G(z)"), " the sample"),
      html("span", {class: "k2"}, html("b", {}, "∂L/∂x"), " its gradient, and the largest entry"),
      html("span", {class: "k3"}, html("b", {}, "one step"), " against it"),
      html("span", {class: "k4"}, html("b", {}, "logit"), state.costs ? " and D(x); " : "; ", "the stroke is 0"));
    const whole = html("div", {}, html("p", {class: "caption"}, "Choose a sample, with the pointer or with Tab and Enter, to follow it below: over the training, and on the curves of the costs."),
      html("div", {class: n > 8 ? "gallery" : "gallery few"}, key, ...cells));
    whole.show = r => cells.forEach(one => one.show(r));
    whole.choose = i => cells.forEach((one, j) => one.setAttribute("aria-pressed", String(j === i)));
    return whole;
  }

  /* The chosen sample at records from the first to the last, and under each its gradient. A click goes to that record. */
  function film(state) {
    const count = state.logits.shape[0], most = Math.min(count, 12);
    const places = Array.from(new Set(Array.from({length: most}, (_, k) => Math.round(k * (count - 1) / Math.max(most - 1, 1)))));
    const [, , , height, width] = state.images.shape;
    const frames = places.map(function (r) {
      const canvases = [0, 1].map(() => Explain.canvas(height, width, {"aria-hidden": "true"}));
      const words = Explain.when(state.section, r), told = html("span", {}), scale = html("span", {class: "scale"});
      const frame = html("button", {type: "button", class: "frame", onclick: () => state.go(r)}, canvases[0], canvases[1], scale, told);
      frame.show = function () {
        const image = part(state.images, r, state.chosen), gradient = part(state.gradient, r, state.chosen);
        Explain.paintImage(canvases[0], image);
        Explain.paintSigned(canvases[1], gradient);
        const f = part(state.logits, r).values[state.chosen];
        told.textContent = short(state.section, r);
        scale.textContent = number(part(state.scale, r).values[state.chosen], 2);
        frame.setAttribute("aria-label", `Go to ${words}: logit ${Explain.logit(f)}`);
      };
      frame.at = r;
      return frame;
    });
    const title = html("h3", {});
    const whole = html("div", {}, title, html("div", {class: "caption"}, "Its gradient is the message that it got at that time. Each map is drawn relative to its own largest entry, the number below it."),
      html("div", {class: "film", style: `--frames: ${Math.max(frames.length, 8)}`}, ...frames));
    whole.show = () => { title.textContent = `Sample ${state.chosen + 1} over the training`; frames.forEach(frame => frame.show()); };
    whole.at = r => frames.forEach(frame => frame.setAttribute("aria-pressed", String(frame.at === r)));
    return whole;
  }
  function short(section, r) {
    const epoch = section.epochs && section.epochs[r];
    if (section.steps[r] === 0) return "start";
    return epoch === null || epoch === undefined || epoch < 1 ? `step ${section.steps[r]}` : `epoch ${Number(epoch.toFixed(1))}`;
  }

  Explain.figures.signal = function (section) {
    const names = ["images", "gradient", "scale", "logits", "norms", "slopes", "surface", "data"];
    const state = {section, costs: section.costs, chosen: 0, ...Object.fromEntries(names.map(name => [name, array(section[name])]))};
    const count = state.logits.shape[0], planar = state.images.shape.length === 3;
    state.record = count - 1;
    state.largest = Explain.largest(state.logits) || 1;
    const views = planar ? [Explain.plane(state)] : [gallery(state)];
    const strip = planar ? null : film(state), compared = section.costs ? Explain.costs(state) : null;
    const live = document.getElementById("signal-state");
    const slider = Explain.slider("Time", count, state.record, r => Explain.when(section, r), r => state.go(r));
    state.go = function (r, quiet) {
      state.record = r;
      slider.set(r);
      views.forEach(view => view.show(r));
      if (strip) strip.at(r);
      if (compared) compared.show(r, state.chosen);
      const logits = Array.from(part(state.logits, r).values), mean = Explain.mean(logits);
      if (!quiet) live.textContent = `${Explain.when(section, r)}: mean logit ${Explain.logit(mean)}` + (section.costs ?
        `; the discriminator takes ${logits.filter(f => f > 0).length} of ${logits.length} for real.` : ".");
    };
    state.choose = function (i) {
      state.chosen = i;
      views.forEach(view => view.choose(i));
      if (strip) strip.show();
      if (compared) compared.show(state.record, i);
    };
    const point = planar ? Explain.slider("Point", state.logits.shape[1], 0, i => `${i + 1} of ${state.logits.shape[1]}`, i => state.choose(i)) : null;
    document.getElementById("signal-slider").append(slider.whole, point ? point.whole : "", section.shown ? html("p", {class: "caption"}, `The slider has ${section.shown}, so that the page stays small. The text above is about the last one.`) : "");
    document.getElementById("signal-gallery").append(...views);
    document.getElementById("signal-caption").append(...(planar ? Explain.planeCaption(state) : [
      html("b", {class: "neg"}, "Blue"), ": a brighter pixel lowers the generator's cost. ", html("b", {class: "pos"}, "Orange"),
      ": a brighter pixel raises it. So a step against the gradient brightens what is blue and darkens what is orange. The step is drawn " +
      "large: the pixel that changes most changes by a quarter of the way from black to white."]));
    if (strip) document.getElementById("signal-film").append(strip);
    if (compared) document.getElementById("signal-costs").append(compared);
    else document.getElementById("signal-costs").append(html("p", {class: "caption"}, `The ${section.cost} cost has no probabilities, so ` +
      "minimax, non-saturating and maximum-likelihood costs cannot be compared on these outputs."));
    Explain.redrawn(() => { state.choose(state.chosen); state.go(state.record, true); });
  };
})();
