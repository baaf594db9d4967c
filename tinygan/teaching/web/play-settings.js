"use strict";
/* The settings of a game: the form, made from the table of fields, and their state in the address. */
(function () {
  const {html} = Explain;
  const SIZE = 220, REACH = 3;
  const Play = Explain.play = {data: JSON.parse(document.getElementById("data").textContent)};
  const fields = Play.data.fields, byName = new Map(fields.map(field => [field.name, field]));
  const title = text => text[0].toUpperCase() + text.slice(1);

  /* Settings -> "data=ring&modes=8&...", and back. What is no number stays text: the server says what is wrong with it. */
  Play.fragment = settings => new URLSearchParams(fields.map(({name, kind}) =>
    [name, kind === "points" ? settings[name].map(point => point.join(",")).join(";") : settings[name]])).toString();
  Play.read = text => Object.fromEntries([...new URLSearchParams(text)].map(([name, value]) => [name, typed(byName.get(name), value)]));
  function typed(field, value) {
    if (!field || field.kind === "choice") return value;
    if (field.kind === "switch") return value === "true" ? true : value === "false" ? false : value;
    if (field.kind === "points") return value === "" ? [] : value.split(";").map(pair => pair.split(",").map(number));
    return number(value);
  }
  const number = text => text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;

  /* A square in which the reader draws points, by mouse, by finger, or by keyboard. */
  function board(changed) {
    let points = [], cursor = null;
    const told = html("p", {class: "caption", "aria-live": "polite"});
    const svgBox = Explain.svg("svg", {viewBox: `0 0 ${SIZE} ${SIZE}`, "aria-hidden": "true"});
    const to = v => SIZE * (v + REACH) / (2 * REACH), near = v => Math.round(100 * Math.min(Math.max(v, -REACH), REACH)) / 100;
    const square = html("div", {class: "drawing", tabindex: 0, role: "application", "aria-label": "A square to draw points in. Arrow keys move the cursor, Enter sets a point, Backspace takes the last one away."}, svgBox);
    function show(words) {
      svgBox.replaceChildren(Explain.svg("path", {class: "axis", d: `M${SIZE / 2},0V${SIZE}M0,${SIZE / 2}H${SIZE}`}),
        ...points.map(([x, y]) => Explain.svg("circle", {class: "dot chosen", r: 3, cx: to(x), cy: to(-y)})),
        cursor ? Explain.svg("path", {class: "cross", d: `M${to(cursor[0]) - 7},${to(-cursor[1])}h14m-7,-7v14`}) : "");
      told.textContent = words || `${points.length} point${points.length === 1 ? "" : "s"}. Click to set points; by keyboard: arrow keys, Enter, Backspace.`;
    }
    function add(x, y) { points.push([near(x), near(y)]); show(); changed(); }
    square.addEventListener("pointerdown", function (event) {
      const box = square.getBoundingClientRect();
      cursor = null;
      add((2 * (event.clientX - box.left) / box.width - 1) * REACH, (1 - 2 * (event.clientY - box.top) / box.height) * REACH);
    });
    square.addEventListener("keydown", function (event) {
      const move = {ArrowLeft: [-0.25, 0], ArrowRight: [0.25, 0], ArrowUp: [0, 0.25], ArrowDown: [0, -0.25]}[event.key];
      if (move) { cursor = cursor ? cursor.map((v, i) => near(v + move[i])) : [0, 0]; show(`Cursor at ${cursor.join(", ")}.`); }
      else if (event.key === "Enter") { cursor = cursor || [0, 0]; add(...cursor); }
      else if (event.key === "Backspace" || event.key === "Delete") { points.pop(); show(); changed(); }
      else return;
      event.preventDefault();
    });
    const whole = html("div", {class: "drawn"}, square, html("div", {}, told, html("button", {type: "button", onclick() { points = []; show(); changed(); }}, "Take all points away")));
    return {whole, get: () => points, set(found) { points = found.map(point => [...point]); show(); }};
  }

  /* The form. chosen(settings) is called when the reader starts a game with it. */
  Play.form = function (form, chosen) {
    const inputs = new Map();
    const control = function (field) {
      const id = `field-${field.name}`, hint = field.about ? html("small", {id: `${id}-about`}, field.about) : null, described = hint ? `${id}-about` : null;
      if (field.kind === "points") {
        const drawn = board(() => { inputs.get("data").value = "points"; });
        inputs.set(field.name, drawn);
        return html("div", {class: "field broad"}, html("span", {}, field.label), drawn.whole);
      }
      const input = field.kind === "choice" ? html("select", {id, "aria-describedby": described}, ...field.choices.map(choice => html("option", {value: choice}, choice)))
        : field.kind === "switch" ? html("input", {type: "checkbox", id, "aria-describedby": described})
          : html("input", {type: "text", inputmode: "decimal", id, autocomplete: "off", "aria-describedby": described});
      inputs.set(field.name, input);
      const range = field.kind === "whole" || field.kind === "number" ? `${field.low} to ${field.high < 1e6 ? field.high : "2³¹ − 1"}` : "";
      return html("div", {class: field.kind === "switch" ? "field switch" : "field"}, html("label", {for: id}, field.label, range ? html("span", {class: "range"}, ` ${range}`) : null), input, hint);
    };
    const groups = [...new Set(fields.map(field => field.group))];
    form.append(...groups.map(group => html("fieldset", {}, html("legend", {}, group), ...fields.filter(field => field.group === group).map(control))),
      html("div", {class: "buttons"}, html("button", {type: "submit", class: "main"}, "Start this game"),
        html("button", {type: "button", onclick() { const box = inputs.get("seed"); box.value = 1 + (Number(box.value) || 0); form.requestSubmit(); }}, "The same with the next seed")));
    form.addEventListener("submit", function (event) {
      event.preventDefault();
      chosen(Object.fromEntries(fields.map(field => [field.name, valueOf(field)])));
    });
    function valueOf(field) {
      const input = inputs.get(field.name);
      return field.kind === "points" ? input.get() : field.kind === "switch" ? input.checked : field.kind === "choice" ? input.value : number(input.value);
    }
    return {set(settings) {
      for (const field of fields) {
        const input = inputs.get(field.name), value = settings[field.name] === undefined ? field.default : settings[field.name];
        if (field.kind === "points") input.set(Array.isArray(value) ? value : []);
        else if (field.kind === "switch") input.checked = value === true;
        else input.value = value;
      }
    }};
  };
  Play.title = title;
})();
