"use strict";
/* Read the page's data, and draw each section that is there. */
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  Explain.planar = data.about.image_shape.length === 1;
  for (const [name, section] of Object.entries(data.sections)) {
    if (!section.absent) Explain.figures[name](section);
  }
  document.documentElement.dataset.drawn = "true";
})();
