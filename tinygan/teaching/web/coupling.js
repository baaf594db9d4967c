"use strict";
/* (e) Who talks to whom: the matrix of |d logit_i / d x_j|, and what it is without the layer that couples the images. */
(function () {
  const {html, array, part, number} = Explain;

  /* scale: from a value to a shade, 0 to 1. */
  function matrix(title, values, images, scale, say) {
    const n = values.shape[0], at = {i: 0, j: 0};
    const squares = Explain.canvas(n, n, {"aria-hidden": "true"});
    const mark = html("div", {class: "mark"}), board = html("div", {class: "board", tabindex: 0, role: "application", "aria-roledescription": "matrix",
      "aria-label": `${title}: ${n} by ${n}. The arrow keys choose a square.`}, squares, mark);
    const thumb = function (k) {
      if (images.shape.length !== 4) return html("span", {}, String(k + 1));
      const canvas = Explain.canvas(images.shape[2], images.shape[3], {"aria-hidden": "true"});
      Explain.paintImage(canvas, part(images, k));
      return canvas;
    };
    function choose(i, j) {
      at.i = Math.min(Math.max(i, 0), n - 1); at.j = Math.min(Math.max(j, 0), n - 1);
      mark.style.left = `${100 * at.j / n}%`; mark.style.top = `${100 * at.i / n}%`;
      mark.style.width = mark.style.height = `${100 / n}%`;
      const v = values.values[at.i * n + at.j];
      board.dataset.value = v; board.dataset.row = at.i; board.dataset.column = at.j;
      say(Explain.words(`${title}: image ${at.j + 1} ${v ? "moves" : "does not move"} logit ${at.i + 1}${at.i === at.j ? ", its own" : ""}. The gradient of that logit at that image has the length ${number(v, 3)}.`));
    }
    board.addEventListener("keydown", function (event) {
      const move = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -n], End: [0, n]}[event.key];
      if (move) { event.preventDefault(); choose(at.i + move[0], at.j + move[1]); }
    });
    const point = function (event) {
      const box = board.getBoundingClientRect();
      choose(Math.floor((event.clientY - box.top) / box.height * n), Math.floor((event.clientX - box.left) / box.width * n));
    };
    board.addEventListener("pointermove", point);
    board.addEventListener("click", point);
    Explain.redrawn(() => squares.paint((i, j) => Explain.shade(scale(values.values[i * n + j]))));
    const rows = html("div", {class: "rows"}, ...Array.from({length: n}, (_, k) => thumb(k))), columns = html("div", {class: "columns"}, ...Array.from({length: n}, (_, k) => thumb(k)));
    const whole = html("div", {}, html("h4", {}, title), html("div", {class: "matrix", style: `--n: ${n}`}, html("div", {}), columns, rows, board));
    choose(0, 0);
    return whole;
  }

  Explain.figures.coupling = function (section) {
    const values = array(section.matrix), images = array(section.images), without = array(section.without);
    const live = document.getElementById("coupling-state"), positive = [values, without].filter(Boolean).flatMap(m => Array.from(m.values)).filter(v => v > 0), layers = section.layers || ["the layer"];
    const high = Math.max(...positive, 1e-30), low = Math.max(Math.min(...positive, high) / 1.6, high / 1e5);
    const log = Explain.log(low, high * 1.0001, 0, 1), scale = v => v > 0 ? log(v) : 0;
    document.getElementById("coupling-scale").textContent = `from ${number(low, 2)} to ${number(high, 2)}; empty is 0`;
    document.getElementById("coupling-diagonal").textContent = Explain.words(section.diagonal || "");
    const say = text => { live.textContent = text; };
    document.getElementById("coupling-matrices").append(...[
      without && matrix(`Without the path through ${layers.join(" and ")}`, without, images, scale, say),
      matrix(`With ${layers.join(" and ")}`, values, images, scale, say)].filter(Boolean).reverse());
  };
})();
