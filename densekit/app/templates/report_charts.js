const payload = JSON.parse(document.getElementById("payload").textContent);

// Curves as SVG of the width that there is, with the values under the pointer.
(() => {
  const tip = document.querySelector(".tip");
  const SPACE = { left: 62, right: 14, top: 10, bottom: 36 };
  const COLOURS = 8;

  function svg(name, attributes, parent, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  }

  const short = (value) => {
    const size = Math.abs(value);
    if (size >= 1e6 || (size > 0 && size < 1e-3)) return value.toExponential(1).replace("e+", "e");
    return String(Number(value.toPrecision(4)));
  };

  function ticks(low, high, count) {
    const raw = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw) || 10);
    const found = [];
    for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) found.push(Number(tick.toPrecision(12)));
    return found;
  }

  function bounds(values, diagonal) {
    if (diagonal) return [0, 1];
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
    if (low > 0 && low < 0.4 * high) low = 0;
    if (high <= 1 && high > 0.7 && low >= 0) high = 1;
    return [low, high];
  }

  function draw(chart, holder, hidden) {
    const lines = chart.lines.filter((line) => !hidden.has(line.name));
    const points = lines.flatMap((line) => line.xs.map((x, i) => [x, line.ys[i]])).filter(([x, y]) => x !== null && y !== null);
    const marked = Object.entries(chart.marked).filter(([name]) => !hidden.has(name));
    for (const [, point] of marked) points.push(point);
    const width = Math.max(260, holder.clientWidth), height = Math.min(300, Math.round(width * 0.62));
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${chart.title}: ${chart.y} over ${chart.x}` });
    holder.replaceChildren(root);
    if (!points.length) return svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, root, "no values");
    const [x0, x1] = bounds(points.map((p) => p[0]), chart.diagonal), [y0, y1] = bounds(points.map((p) => p[1]), chart.diagonal);
    const px = (x) => SPACE.left + ((x - x0) / (x1 - x0)) * (width - SPACE.left - SPACE.right);
    const py = (y) => height - SPACE.bottom - ((y - y0) / (y1 - y0)) * (height - SPACE.top - SPACE.bottom);
    axes(root, chart, { x0, x1, y0, y1, px, py, width, height });
    for (const line of lines) {
      const visible = line.xs.map((x, i) => [x, line.ys[i]]).filter(([x, y]) => x !== null && y !== null);
      const path = visible.map(([x, y], i) => `${i ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
      svg("path", { d: path, class: `line ${line.colour}`, "data-name": line.name }, root);
      if (visible.length === 1) svg("circle", { cx: px(visible[0][0]), cy: py(visible[0][1]), r: 3.5, class: `point ${line.colour}` }, root);
    }
    for (const [name, [x, y]] of marked) {
      const line = lines.find((one) => one.name === name);
      svg("circle", { cx: px(x), cy: py(y), r: 4.5, class: `point ${line ? line.colour : "c0"}` }, root);
    }
    follow(root, chart, lines, { px, py, width, height });
  }

  function axes(root, chart, { x0, x1, y0, y1, px, py, width, height }) {
    for (const tick of ticks(y0, y1, 4)) {
      svg("line", { x1: SPACE.left, x2: width - SPACE.right, y1: py(tick), y2: py(tick), class: "grid" }, root);
      svg("text", { x: SPACE.left - 6, y: py(tick) + 4, "text-anchor": "end" }, root, short(tick));
    }
    for (const tick of ticks(x0, x1, Math.max(2, Math.floor(width / 110)))) svg("text", { x: px(tick), y: height - SPACE.bottom + 15, "text-anchor": "middle" }, root, short(tick));
    svg("line", { x1: SPACE.left, x2: width - SPACE.right, y1: height - SPACE.bottom, y2: height - SPACE.bottom, class: "axis" }, root);
    if (chart.diagonal) svg("line", { x1: px(0), y1: py(0), x2: px(1), y2: py(1), class: "ideal" }, root);
    svg("text", { x: (SPACE.left + width - SPACE.right) / 2, y: height - 4, "text-anchor": "middle" }, root, chart.x);
    svg("text", { x: 11, y: (height - SPACE.bottom + SPACE.top) / 2, "text-anchor": "middle", transform: `rotate(-90 11 ${(height - SPACE.bottom + SPACE.top) / 2})` }, root, cut(chart.y, (height - 30) / 5.8));
  }

  const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

  function nearest(lines, place, { px, py }) {
    let best = null;
    for (const line of lines) for (let i = 0; i < line.xs.length; i++) {
      if (line.xs[i] === null || line.ys[i] === null) continue;
      const [dx, dy] = [px(line.xs[i]) - place.x, py(line.ys[i]) - place.y];
      const distance = dx * dx + 0.3 * dy * dy;
      if (!best || distance < best.distance) best = { line, x: line.xs[i], y: line.ys[i], distance };
    }
    return best;
  }

  function follow(root, chart, lines, scale) {
    const cursor = svg("line", { class: "cursor", y1: SPACE.top, y2: scale.height - SPACE.bottom, visibility: "hidden" }, root);
    const dot = svg("circle", { r: 4, class: "point c0", visibility: "hidden" }, root);
    const leave = () => {
      tip.hidden = true;
      for (const node of [cursor, dot]) node.setAttribute("visibility", "hidden");
      for (const path of root.querySelectorAll(".line")) path.classList.remove("faint");
    };
    root.addEventListener("pointerleave", leave);
    root.addEventListener("pointermove", (event) => {
      const box = root.getBoundingClientRect();
      const found = nearest(lines, { x: event.clientX - box.left, y: event.clientY - box.top }, scale);
      if (!found) return;
      for (const [node, names] of [[cursor, { x1: scale.px(found.x), x2: scale.px(found.x) }], [dot, { cx: scale.px(found.x), cy: scale.py(found.y), class: `point ${found.line.colour}` }]]) {
        for (const [key, value] of Object.entries(names)) node.setAttribute(key, value);
        node.setAttribute("visibility", "visible");
      }
      if (lines.length > 1) for (const path of root.querySelectorAll(".line")) path.classList.toggle("faint", path.dataset.name !== found.line.name);
      tip.textContent = `${found.line.name}\n${chart.x} ${short(found.x)}\n${chart.y} ${short(found.y)}`;
      tip.hidden = false;
      const left = Math.min(event.pageX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
      tip.style.left = `${Math.max(4, left)}px`;
      tip.style.top = `${event.pageY + 14}px`;
    });
  }

  function keys(chart, hidden, redraw) {
    const list = document.createElement("div");
    list.className = "keys";
    for (const line of chart.lines) {
      const key = document.createElement("button");
      key.type = "button";
      key.className = `key ${line.colour}`;
      key.setAttribute("aria-pressed", "true");
      key.append(document.createElement("i"), line.name);
      key.addEventListener("click", () => {
        if (!hidden.delete(line.name)) hidden.add(line.name);
        key.setAttribute("aria-pressed", String(!hidden.has(line.name)));
        redraw();
      });
      list.append(key);
    }
    return list;
  }

  for (const figure of document.querySelectorAll("[data-chart]")) {
    const chart = payload.charts[Number(figure.dataset.chart)], holder = figure.querySelector(".plot"), hidden = new Set();
    chart.lines.forEach((line, place) => { line.colour = `c${place % COLOURS}`; });
    const redraw = () => draw(chart, holder, hidden);
    figure.append(keys(chart, hidden, redraw));
    let width = -1;
    new ResizeObserver(() => {
      if (holder.clientWidth === width) return;
      width = holder.clientWidth;
      redraw();
    }).observe(holder);
  }
})();
