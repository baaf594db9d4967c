"use strict";
/* Read the page's data, and draw each section that is there. */
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  /* What the layers are, "generator.3" -> "Dense(512 -> 1024)", as the tape names them. */
  const rounds = data.sections.tape && data.sections.tape.rounds || [];
  Explain.layers = Object.fromEntries(rounds.flatMap(round => round.nodes).map(node => (node.layer || "").split(" ")).filter(words => words[1]).map(([path, ...words]) => [path, words.join(" ").replace("->", "→")]));
  for (const [name, section] of Object.entries(data.sections)) {
    if (!section.absent) Explain.figures[name](section);
  }
  document.documentElement.dataset.drawn = "true";
})();
