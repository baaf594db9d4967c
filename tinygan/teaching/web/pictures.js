"use strict";
/* Pictures of arrays: images, and signed values in blue and orange. */
(function () {
  const {html} = Explain;
  const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;
  const LIGHT = {zero: [246, 244, 239], negative: [20, 84, 160], positive: [190, 82, 0]};
  const DARK = {zero: [30, 32, 35], negative: [120, 186, 255], positive: [255, 166, 77]};

  /* The colour [r, g, b] of a signed value from -1 to 1. It grows with |value|^0.7, so that small values can be seen. */
  Explain.signed = function (value, palette = dark() ? DARK : LIGHT) {
    const t = Math.min(Math.abs(value), 1) ** 0.7, end = value < 0 ? palette.negative : palette.positive;
    return palette.zero.map((z, i) => Math.round(z + (end[i] - z) * t));
  };
  /* The colour of a size from 0 to 1: from paper to ink. */
  Explain.shade = function (t) {
    const [zero, full] = dark() ? [[30, 32, 35], [233, 231, 225]] : [[246, 244, 239], [28, 29, 31]];
    return zero.map((z, i) => Math.round(z + (full[i] - z) * Math.min(Math.max(t, 0), 1)));
  };

  /* A canvas of so many pixels, and a function that paints it: paint((row, column) => [r, g, b]). */
  Explain.canvas = function (height, width, attributes = {}) {
    const canvas = html("canvas", {width, height, ...attributes}), context = canvas.getContext("2d");
    canvas.paint = function (colour) {
      const image = context.createImageData(width, height);
      for (let y = 0, k = 0; y < height; y++) {
        for (let x = 0; x < width; x++, k += 4) {
          const [r, g, b] = colour(y, x);
          image.data[k] = r; image.data[k + 1] = g; image.data[k + 2] = b; image.data[k + 3] = 255;
        }
      }
      context.putImageData(image, 0, 0);
    };
    return canvas;
  };
  const plane = (image, channel, y, x) => {
    const [channels, height, width] = image.shape;
    return image.values[(Math.min(channel, channels - 1) * height + y) * width + x];
  };
  /* uint8 (C, H, W) as it is. */
  Explain.paintImage = (canvas, image) =>
    canvas.paint((y, x) => [0, 1, 2].map(c => plane(image, image.shape[0] === 3 ? c : 0, y, x)));
  /* Signed (C, H, W), divided by `scale`. Of several channels the mean is shown. */
  Explain.paintSigned = function (canvas, image, scale = 1) {
    const channels = image.shape[0];
    canvas.paint(function (y, x) {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += plane(image, c, y, x);
      return Explain.signed(sum / channels / scale);
    });
  };
  /* uint8 (C, H, W) one step against the signed gradient (C, H, W) in [-1, 1]: the largest change is `size` of the range. */
  Explain.paintStep = (canvas, image, gradient, size) =>
    canvas.paint((y, x) => [0, 1, 2].map(function (c) {
      const channel = image.shape[0] === 3 ? c : 0;
      return Math.min(Math.max(plane(image, channel, y, x) - 255 * size * plane(gradient, channel, y, x), 0), 255);
    }));
  /* The largest magnitude in an array. */
  Explain.largest = array => array.values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
})();
