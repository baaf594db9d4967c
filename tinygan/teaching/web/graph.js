"use strict";
/* A graph as a tape: a row for each op, and lines in lanes beside them that lead from each value to the ops that use it. */
(function () {
  const {svg} = Explain;
  const LANE = 15, ROW = 30;

  /* The lane of each row. A value keeps its lane until its last use. rows: [{parents: [row numbers]}], inputs first. */
  Explain.lanes = function (rows) {
    const until = rows.map((_, r) => r);
    rows.forEach((row, r) => row.parents.forEach(p => { until[p] = Math.max(until[p], r); }));
    const taken = [], lane = [];
    rows.forEach(function (row, r) {
      const ending = row.parents.filter(p => until[p] === r).map(p => lane[p]);
      ending.forEach(l => { taken[l] = false; });
      let mine = ending.length ? Math.min(...ending) : 0;
      while (taken[mine]) mine += 1;
      lane.push(mine);
      taken[mine] = until[r] > r;
    });
    return lane;
  };

  /* How wide the lines of these lanes are together. */
  Explain.tapeWidth = lane => 20 + LANE * Math.max(0, ...lane);

  /* The lines and dots of a tape. tops: the height at which the middle of each row is. Returns the picture with `edges`
     (each with from and to) and `dots`, to be marked as one steps through. */
  Explain.tapeLines = function (rows, lane, tops, height) {
    const x = r => 10 + LANE * lane[r], y = r => tops[r], edges = [];
    rows.forEach((row, r) => row.parents.forEach(function (p) {
      const bend = Math.min(ROW * 0.8, y(r) - y(p));
      const path = svg("path", {class: "edge", d: `M${x(p)},${y(p)}V${y(r) - bend}C${x(p)},${y(r) - bend / 3} ${x(r)},${y(r) - bend * 0.6} ${x(r)},${y(r)}`});
      path.from = p; path.to = r;
      edges.push(path);
    }));
    const dots = rows.map((row, r) => svg("circle", {class: "node", cx: x(r), cy: y(r), r: 4.5}));
    const width = Explain.tapeWidth(lane);
    const picture = svg("svg", {width, height, viewBox: `0 0 ${width} ${height}`, class: "lines", "aria-hidden": "true", style: `width: ${width}px; height: ${height}px`}, ...edges, ...dots);
    return {picture, edges, dots};
  };
})();
