// A drawing becomes the numbers that the network sees, as training pictures are made: of their size, with lines of their width, and with
// its centre of mass where theirs is. It is computed here rather than read from a canvas, so that all browsers give the same numbers.

const EDGE = 1.2; // over so many pixels, the edge of a line goes from ink to paper

/**
 * How training pictures are drawn: the `size` of the larger side of what they show and the width of lines (`pen`) in pixels, the middle
 * by which they are aligned (`centred`: "mass" or "box") and its `centre` [y, x], and the levels (0 to 255) of `paper` and `ink`.
 *
 * If the model's description does not say, it is as in MNIST: 20 of 28 pixels, aligned by mass.
 */
export function manner({ size: [height, width], edge_colour: edge, ink }) {
  const side = Math.min(height, width);
  const paper = edge?.length ? edge[0] : 0;
  const mnist = { size: (20 / 28) * side, pen: (2.1 / 28) * side, centred: "mass", centre: [height / 2 + 0.5, width / 2 + 0.5] };
  const how = { ...mnist, ...ink, paper, ink: paper > 127 ? 0 : 255, height, width };
  // Pictures of more than lines would ask for a pen as wide as what they show.
  return { ...how, pen: Math.min(how.pen, how.size / 4) };
}

/** Return the pixels (0 to 255, row by row) of strokes, which are lists of points [x, y] in any unit. */
export function raster(strokes, how) {
  const points = strokes.flat();
  const [left, top] = [0, 1].map((axis) => points.reduce((least, point) => Math.min(least, point[axis]), Infinity));
  const [right, bottom] = [0, 1].map((axis) => points.reduce((most, point) => Math.max(most, point[axis]), -Infinity));
  const extent = Math.max(right - left, bottom - top);
  const scale = extent > 0 ? (how.size - how.pen) / extent : 0;
  const [width, height] = [(right - left) * scale, (bottom - top) * scale];
  const place = (x, y) => strokes.map((stroke) => stroke.map((point) => [(point[0] - left) * scale + x, (point[1] - top) * scale + y]));
  let [x, y] = [how.centre[1] - width / 2, how.centre[0] - height / 2];
  if (how.centred === "mass") {
    const [massX, massY] = centreOfMass(cover(place(x, y), how), how);
    [x, y] = [x + how.centre[1] - massX, y + how.centre[0] - massY];
  }
  x = inside(x, width, how.width, how.pen);
  y = inside(y, height, how.height, how.pen);
  return cover(place(x, y), how).map((share) => Math.round(how.paper + share * (how.ink - how.paper)));
}

/** How much of each pixel is covered with ink, 0 to 1: by its distance to the nearest piece of a line. */
function cover(strokes, how) {
  const squares = new Float64Array(how.width * how.height).fill(Infinity);
  const reach = how.pen / 2 + EDGE;
  for (const stroke of strokes) {
    stroke.forEach((end, index) => {
      const start = stroke[Math.max(index - 1, 0)];
      const [dx, dy] = [end[0] - start[0], end[1] - start[1]];
      const square = dx * dx + dy * dy;
      const rows = span(start[1], end[1], reach, how.height);
      const columns = span(start[0], end[0], reach, how.width);
      for (let row = rows[0]; row < rows[1]; row++) {
        for (let column = columns[0]; column < columns[1]; column++) {
          const [px, py] = [column + 0.5 - start[0], row + 0.5 - start[1]];
          const along = square ? Math.min(Math.max((px * dx + py * dy) / square, 0), 1) : 0;
          const distance = (px - along * dx) ** 2 + (py - along * dy) ** 2;
          const pixel = row * how.width + column;
          if (distance < squares[pixel]) squares[pixel] = distance;
        }
      }
    });
  }
  return Array.from(squares, (distance) => Math.min(Math.max((how.pen / 2 + EDGE / 2 - Math.sqrt(distance)) / EDGE, 0), 1));
}

function span(one, other, reach, limit) {
  return [Math.max(Math.floor(Math.min(one, other) - reach), 0), Math.min(Math.ceil(Math.max(one, other) + reach), limit)];
}

function centreOfMass(shares, how) {
  let [x, y, mass] = [0, 0, 0];
  shares.forEach((share, pixel) => {
    x += share * ((pixel % how.width) + 0.5);
    y += share * (Math.floor(pixel / how.width) + 0.5);
    mass += share;
  });
  return mass ? [x / mass, y / mass] : [how.width / 2, how.height / 2];
}

/** Keep a drawing of some size on the paper, as far as it fits there at all. */
function inside(wanted, size, limit, pen) {
  const middle = (limit - size) / 2;
  return Math.min(Math.max(wanted, Math.min(pen / 2, middle)), Math.max(limit - size - pen / 2, middle));
}
