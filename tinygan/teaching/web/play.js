"use strict";
/* The playground: one stream from the server that holds this tab's engine, commands, and the controls. */
(function () {
  const {html} = Explain, {data} = Explain.play, id = name => document.getElementById(name);
  Explain.planar = true;
  const plane = Explain.play.plane(id("stage")), alertBox = id("alert"), live = id("live");
  const layers = new Set(data.layers);
  let game = null; // {name, opening, frame, history, running, closing}
  let speed = 5, tape = null, drawn = 0, pending = false;

  // -- the server

  async function post(path, body, signal) {
    const answer = await fetch(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body), signal, cache: "no-store"});
    if (answer.ok) return answer;
    throw new Error((await answer.json().catch(() => ({}))).error || `The server answered ${answer.status}.`);
  }
  const missing = error => error instanceof TypeError ? "The server does not answer. Is tinygan play still running?" : error.message;
  function tell(words) { alertBox.textContent = words; }

  /* A command to this tab's engine: what it answers, or null if it was refused, with the reason on the page. */
  async function ask(command) {
    const mine = game;
    if (!mine || !mine.name) return null;
    try {
      const found = await (await post(`do/${mine.name}`, command)).json();
      if (mine !== game) return null;
      tell("");
      return found;
    } catch (error) {
      if (mine === game) tell(missing(error));
      return null;
    }
  }

  async function start(settings, {until = null, run = false} = {}) {
    if (game) game.closing.abort();
    const mine = game = {closing: new AbortController(), history: [], running: false, until};
    tell("");
    forget();
    form.set(settings);
    try {
      const answer = await opened(settings, mine.closing.signal);
      for await (const line of linesOf(answer.body)) {
        if (mine !== game) return;
        heard(line);
        if (line.kind === "opened" && run) play();
      }
      if (mine === game && !mine.over) over("The server has closed this game. Start it again.");
    } catch (error) {
      if (mine === game && !mine.closing.signal.aborted) over(missing(error));
    }
  }
  /* A tab that is loaded again may find its own last engine not yet freed: so it asks a second time. */
  async function opened(settings, signal) {
    try {
      return await post("open", {settings}, signal);
    } catch (error) {
      if (!/open already/.test(error.message)) throw error;
      await new Promise(done => setTimeout(done, 1200));
      return post("open", {settings}, signal);
    }
  }
  async function* linesOf(body) {
    const reader = body.getReader(), decoder = new TextDecoder();
    let text = "";
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;
      text += decoder.decode(value, {stream: true});
      const parts = text.split("\n");
      text = parts.pop();
      for (const part of parts) if (part) yield JSON.parse(part);
    }
  }

  function heard(line) {
    if (line.kind === "opened") {
      game.name = line.id;
      game.opening = line;
      plane.open(line);
      form.set(line.settings);
      history.replaceState(null, "", `#${Explain.play.fragment(line.settings)}`);
      describe(line.settings);
      if (layers.size < data.layers.length) ask({do: "look", layers: [...layers]});
      took(line.frame, "ready");
      document.documentElement.dataset.drawn = "true";
    } else if (line.kind === "frame") {
      if (line.running || game.running) took(line.frame, line.running ? null : "paused");
      if (!line.running) running(false);
    } else if (line.kind === "stopped") {
      running(false);
      if (line.frame) took(line.frame, "stopped");
      tell(line.error);
    } else if (line.kind === "closed") over(line.error);
  }
  function over(words) {
    game.over = true;
    game.name = null;
    running(false);
    tell(words);
    controls();
  }

  /* A new frame. why: what is said aloud of it; null in the middle of a run. */
  function took(frame, why) {
    const before = game.frame;
    game.frame = frame;
    game.history = game.history.filter(entry => entry.move < frame.move || (entry.move > frame.move && entry.move <= frame.moves));
    game.history.push(frame);
    game.history.sort((a, b) => a.move - b.move);
    game.history.forEach(entry => { if (entry !== frame) { delete entry.surface; delete entry.points; delete entry.gradient; } });
    if (before && before.move !== frame.move) forget();
    if (why) aloud(why);
    if (!pending) { pending = true; requestAnimationFrame(draw); }
  }
  function aloud(why) {
    live.textContent = `${Explain.play.place(game.frame, game.opening)}, ${why}. ${Explain.play.words(game.frame, game.opening)}`;
  }
  function draw() {
    pending = false;
    if (!game || !game.frame) return;
    const {frame, opening} = game, now = performance.now();
    plane.show(frame);
    id("now").replaceChildren(html("b", {}, `${Explain.play.place(frame, opening)}${game.running ? "" : ", paused"}. `), Explain.play.words(frame, opening));
    slider.show();
    if (!game.running || now - drawn > 200) {
      Explain.play.charts(id("charts"), game.history.filter(entry => entry.move <= frame.move), opening, frame.moves);
      drawn = now;
    }
    controls();
  }

  // -- moves

  function running(on) {
    game.running = on;
    buttons.run.textContent = on ? "Pause" : "Run";
    buttons.run.setAttribute("aria-pressed", String(on));
    controls();
    if (!pending && game.frame) { pending = true; requestAnimationFrame(draw); }
  }
  async function play() {
    const until = game.until && game.frame.move < game.until ? game.until : null;
    const found = await ask({do: "run", times: speed, until});
    if (found) { running(true); aloud("running"); }
  }
  async function pause(why = "paused") {
    const found = await ask({do: "pause"});
    if (found) { running(false); took(found.frame, why); }
  }
  async function move(name) {
    const found = await ask({do: name});
    if (found) { running(false); took(found.frame, {round: "a round made", d: "D updated", g: "G updated"}[name]); }
  }
  async function go(to) {
    const found = await ask({do: "go", to});
    if (found) { running(false); took(found.frame, "gone there"); }
  }
  const run = () => game.running ? pause() : play();

  /* One op of the next round: at first the trace is fetched, then each call goes one op on. */
  async function op() {
    if (!tape) {
      const mine = game, found = await ask({do: "ops"});
      if (!found || mine !== game) return;
      running(false);
      tape = {k: 0, ...Explain.figures.tape(found.ops)};
      id("ops").classList.add("open");
      id("ops-text").textContent = found.ops.text.replaceAll("image", "point");
      tape.choose(0);
      tape.whole[0].go(0);
      tape.whole[0].querySelector(".tape-list").focus({preventScroll: true});
    } else if (tape.whole[tape.k].at() < tape.whole[tape.k].places - 1) {
      tape.whole[tape.k].go(tape.whole[tape.k].at() + 1);
    } else if (tape.k < tape.whole.length - 1) {
      tape.k += 1;
      tape.choose(tape.k);
      tape.whole[tape.k].go(0);
    } else {
      live.textContent = "That was the last op of the round. A round on the whole batch is one press of Round.";
      tell(live.textContent);
      return;
    }
    id("tape-stepper").scrollIntoView({block: "nearest"});
  }
  function forget() {
    tape = null;
    id("ops").classList.remove("open");
    id("tape-overview").replaceChildren();
    id("tape-stepper").replaceChildren();
  }

  // -- controls

  const button = (text, label, action, attributes = {}) => html("button", {type: "button", "aria-label": label, onclick: action, ...attributes}, text);
  const buttons = {
    run: html("button", {type: "button", class: "main", "aria-pressed": "false", onclick: run}, "Run"),
    round: button("Round", "One round: k updates of D, then one of G", () => move("round")),
    d: button("Step D", "One update of the discriminator", () => move("d")),
    g: button("Step G", "One update of the generator", () => move("g")),
    op: button("One op", "One op of the next round", op),
  };
  const pace = html("select", {"aria-label": "Rounds between two pictures", onchange() { speed = +pace.value; if (game && game.running) play(); }},
    ...[1, 5, 25].map(n => html("option", {value: n, selected: n === speed}, `${n} round${n > 1 ? "s" : ""} a picture`)));
  id("moves").append(...Object.values(buttons), pace);

  const slider = (function () {
    const input = html("input", {type: "range", min: 0, max: 0, value: 0, "aria-label": "Back to an earlier step"}), output = html("output", {"aria-hidden": "true"});
    let waiting = false, wanted = null;
    input.addEventListener("input", async function () {
      wanted = +input.value;
      if (waiting) return;
      waiting = true;
      while (wanted !== null) { const to = wanted; wanted = null; await go(to); }
      waiting = false;
    });
    id("back").append(html("div", {class: "slider"}, html("span", {}, "Back to"), input, output));
    return {input, show() {
      const {move: at, moves} = game.frame;
      input.max = moves;
      if (!waiting) input.value = at;
      input.disabled = moves === 0;
      output.textContent = `move ${at.toLocaleString("en")} of ${moves.toLocaleString("en")}`;
      input.setAttribute("aria-valuetext", output.textContent);
    }};
  })();
  function controls() {
    const here = game && game.name;
    Object.values(buttons).forEach(one => { one.disabled = !here; });
  }

  const names = {surface: "D's surface", samples: "samples", arrows: "arrows against ∂L/∂x", density: "the data's density"};
  id("layers").append(...data.layers.map(name => html("label", {}, html("input", {type: "checkbox", checked: true, "data-layer": name, async onchange(event) {
    if (event.target.checked) layers.add(name); else layers.delete(name);
    plane.layers(layers);
    const found = await ask({do: "look", layers: [...layers]});
    if (found && !found.running) took(found.frame, `${names[name]} ${layers.has(name) ? "shown" : "hidden"}`);
  }}), ` ${names[name]}`)));
  plane.layers(layers);

  const presetButtons = data.presets.map(preset => html("button", {type: "button", "aria-pressed": "false",
    onclick: () => start(preset.settings, {until: preset.rounds, run: true})}, Explain.play.title(preset.name)));
  id("presets").append(...presetButtons);
  function describe(settings) {
    id("about").textContent = `A game of your own: ${settings.data === "points" ? `${settings.points.length} drawn points` : settings.data}, the ${settings.cost} cost, seed ${settings.seed}. Press Run.`;
    data.presets.forEach(function (preset, i) {
      const same = Explain.play.fragment(preset.settings) === Explain.play.fragment(settings);
      presetButtons[i].setAttribute("aria-pressed", String(same));
      if (same) { id("about").textContent = preset.about; game.until = preset.rounds; }
    });
  }

  id("stage").addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !game || !game.frame) return;
    const key = {" ": run, r: () => move("round"), d: () => move("d"), g: () => move("g"), o: op,
      ArrowLeft: () => go(Math.max(game.frame.move - 1, 0)), ArrowRight: () => game.frame.move < game.frame.moves ? go(game.frame.move + 1) : move("round")}[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (key) { event.preventDefault(); key(); }
  });

  const form = Explain.play.form(id("form"), function (settings) {
    start(settings);
    id("game").scrollIntoView();
  });
  document.addEventListener("visibilitychange", () => { if (document.hidden && game && game.running) pause("paused, because the tab was hidden"); });
  addEventListener("pagehide", () => { if (game) game.closing.abort(); });
  addEventListener("pageshow", event => { if (event.persisted) fromAddress(); });
  addEventListener("hashchange", fromAddress);

  /* What the address says; without anything, a game that collapses, as a first picture. */
  function fromAddress() {
    const text = location.hash.slice(1);
    if (text) return start(Explain.play.read(text));
    const first = data.presets.find(preset => preset.name === "collapses");
    return start(first.settings, {until: first.rounds, run: !matchMedia("(prefers-reduced-motion: reduce)").matches});
  }
  fromAddress();
})();
