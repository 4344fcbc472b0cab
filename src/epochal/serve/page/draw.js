// Drawing with mouse, finger or pen. A drawing is a list of strokes; a stroke is a list of points [x, y] in shares of the paper's width.

/** Let people draw on a canvas; `changed` is called with all strokes after each change. */
export class Paper {
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    this.strokes = [];
    this.pointer = null;
    canvas.addEventListener("pointerdown", (event) => this.start(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.end(event));
    new ResizeObserver(() => this.show()).observe(canvas);
  }

  /** Set the aspect ratio and the width of the pen, as a share of the paper's width. */
  fit(width, height, pen) {
    this.canvas.style.aspectRatio = `${width} / ${height}`;
    this.pen = pen;
    this.show();
  }

  start(event) {
    // One finger draws; others, and other buttons than the main one, do not.
    if (this.pointer !== null || event.button !== 0) return;
    event.preventDefault();
    this.pointer = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.strokes.push([this.point(event)]);
    this.update();
  }

  move(event) {
    if (event.pointerId !== this.pointer) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const one of all.length ? all : [event]) this.strokes.at(-1).push(this.point(one));
    this.update();
  }

  end(event) {
    if (event.pointerId === this.pointer) this.pointer = null;
  }

  point(event) {
    const { left, top, width } = this.canvas.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / width];
  }

  undo() {
    this.strokes.pop();
    this.update();
  }

  clear() {
    this.strokes = [];
    this.update();
  }

  update() {
    this.show();
    this.changed(this.strokes);
  }

  show() {
    const { canvas } = this;
    const scale = canvas.clientWidth * devicePixelRatio;
    if (!scale) return;
    canvas.width = scale;
    canvas.height = canvas.clientHeight * devicePixelRatio;
    const context = canvas.getContext("2d");
    context.strokeStyle = getComputedStyle(canvas).color;
    context.lineWidth = this.pen * scale;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(stroke[0][0] * scale, stroke[0][1] * scale);
      // A point is a line of no length: round ends make it a dot.
      for (const [x, y] of stroke) context.lineTo(x * scale, y * scale);
      context.stroke();
    }
  }
}
