// Pictures with what is annotated (dashed) and predicted (solid, filled) in them, drawn on canvases.
(() => {
  const dialog = document.querySelector("dialog");
  const decoded = new Map();
  const ZOOM = 4; // of label maps, so that outlines are thin
  const IGNORED = 255;

  function decode(source) {
    if (!source) return Promise.resolve(null);
    if (!decoded.has(source)) {
      const image = new Image();
      image.src = source;
      decoded.set(source, image.decode().then(() => image, () => null));
    }
    return decoded.get(source);
  }

  function labels(image) { // a grey PNG, the annotation above the prediction
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const height = canvas.height / 2, count = canvas.width * height;
    const plane = (start) => Uint8Array.from({ length: count }, (_, i) => pixels[4 * (start + i)]);
    return { width: canvas.width, height, truth: plane(0), found: plane(count) };
  }

  const rgb = (colour) => [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));

  // The colour of each value of a mask, or null where nothing is drawn.
  function colouring(gallery, off) {
    const shown = Object.entries(gallery.classes).filter(([value]) => !off.has(value)).map(([value, [, colour]]) => [Number(value), rgb(colour)]);
    const table = new Map(shown);
    return (value) => {
      if (value === IGNORED) return null;
      if (!gallery.bits) return table.get(value) || null;
      const [, colour] = shown.findLast(([bit]) => (value >> bit) & 1) || [];
      return colour || null;
    };
  }

  function paintMasks(context, map, gallery, state, place) {
    const colour = colouring(gallery, state.off);
    if (state.found) context.drawImage(filled(map, colour), ...place);
    if (state.truth) context.drawImage(outlined(map, colour), ...place);
  }

  function picture(width, height, paint) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d"), data = context.createImageData(width, height);
    paint((x, y, [red, green, blue], alpha) => data.data.set([red, green, blue, alpha], 4 * (y * width + x)));
    context.putImageData(data, 0, 0);
    return canvas;
  }

  function filled(map, colour) {
    return picture(map.width, map.height, (set) => {
      for (let y = 0; y < map.height; y++) for (let x = 0; x < map.width; x++) {
        const ink = map.truth[y * map.width + x] === IGNORED ? null : colour(map.found[y * map.width + x]);
        if (ink) set(x, y, ink, 125);
      }
    });
  }

  function outlined(map, colour) {
    const at = (x, y) => (x < 0 || y < 0 || x >= map.width || y >= map.height ? -1 : map.truth[y * map.width + x]);
    return picture(map.width * ZOOM, map.height * ZOOM, (set) => {
      for (let y = 0; y < map.height; y++) for (let x = 0; x < map.width; x++) {
        const own = at(x, y), ink = colour(own);
        if (!ink) continue;
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) if (at(x + dx, y + dy) !== own) {
          for (let i = 0; i < ZOOM; i++) for (let depth = 0; depth < 2; depth++) {
            const [u, v] = dx ? [dx > 0 ? ZOOM - 1 - depth : depth, i] : [i, dy > 0 ? ZOOM - 1 - depth : depth];
            set(ZOOM * x + u, ZOOM * y + v, depth ? [0, 0, 0] : ink, depth ? 120 : 255);
          }
        }
      }
    });
  }

  function paintBoxes(context, view, gallery, state, scale, place, frame) {
    const rectangle = ([x1, y1, x2, y2]) => [place[0] + (x1 - frame[0]) * scale, place[1] + (y1 - frame[1]) * scale, (x2 - x1) * scale, (y2 - y1) * scale];
    const visible = (label) => !state.off.has(String(label));
    context.save();
    context.beginPath();
    context.rect(...place);
    context.clip();
    if (state.truth) for (const box of view.truth.filter((one) => visible(one[4]))) outline(context, rectangle(box), gallery.classes[box[4]], state.ratio, true);
    if (state.found) for (const box of view.found.filter((one) => visible(one[4]) && one[5] >= least(gallery, state, one[4])).reverse()) {
      const at = rectangle(box);
      outline(context, at, gallery.classes[box[4]], state.ratio, false);
      if (state.names) tag(context, at, gallery.classes[box[4]], box[5], state.ratio);
    }
    context.restore();
    if (view.marked) mark(context, rectangle(view.marked), state.ratio);
  }

  const least = (gallery, state, label) => state.least ?? gallery.thresholds[label] ?? 0.5;

  function outline(context, at, [, colour] = ["", "#ffffff"], ratio, dashed) {
    for (const [style, width] of [["rgba(0,0,0,.65)", 3.4], [colour, dashed ? 1.8 : 2]]) {
      context.setLineDash(dashed && style === colour ? [5 * ratio, 4 * ratio] : []);
      context.lineWidth = (dashed && style !== colour ? 2.4 : width) * ratio;
      context.strokeStyle = style;
      context.strokeRect(...at);
    }
    context.setLineDash([]);
  }

  function tag(context, [x, y], [name, colour] = ["", "#ffffff"], score, ratio) {
    const text = `${name} ${score.toFixed(2)}`;
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    const width = context.measureText(text).width + 6 * ratio, top = Math.max(0, y - 15 * ratio);
    context.fillStyle = colour;
    context.fillRect(x - ratio, top, width, 15 * ratio);
    context.fillStyle = "#101318";
    context.fillText(text, x + 2 * ratio, top + 11.5 * ratio);
  }

  function mark(context, [x, y, width, height], ratio) {
    context.strokeStyle = "#ff2fd0";
    context.lineWidth = 2.5 * ratio;
    const more = 4 * ratio;
    context.strokeRect(x - more, y - more, width + 2 * more, height + 2 * more);
  }

  async function draw(canvas, view, gallery, state) {
    const entry = payload.images[view.image];
    const [image, masks] = await Promise.all([decode(entry.source), decode(view.masks)]);
    const map = masks && labels(masks), own = canvas.getBoundingClientRect();
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    canvas.width = Math.max(1, Math.round(own.width * ratio));
    canvas.height = Math.max(1, Math.round(own.height * ratio));
    const frame = entry.frame || [0, 0, map ? map.width : 4, map ? map.height : 3];
    const scale = Math.min(canvas.width / frame[2], canvas.height / frame[3]);
    const size = [frame[2] * scale, frame[3] * scale];
    const place = [(canvas.width - size[0]) / 2, (canvas.height - size[1]) / 2, ...size];
    const context = canvas.getContext("2d");
    if (image) context.drawImage(image, ...place);
    else missing(context, canvas, place, entry.reason, ratio);
    const drawn = { ...state, ratio };
    if (map) paintMasks(context, map, gallery, drawn, place);
    paintBoxes(context, view, gallery, drawn, scale, place, frame);
    canvas.dataset.drawn = "true";
  }

  function missing(context, canvas, place, reason, ratio) {
    context.fillStyle = "rgba(128,136,148,.18)";
    context.fillRect(...place);
    context.fillStyle = "rgb(128,136,148)";
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.fillText(reason, canvas.width / 2, canvas.height / 2);
    context.textAlign = "start";
  }

  function element(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  function viewOf(view, gallery, state, about, tagName) {
    const canvas = element("canvas", { role: "img", "aria-label": `${view.title} ${about}`.trim() });
    const holder = element(tagName, { class: "view", ...(tagName === "button" ? { type: "button" } : {}) }, canvas);
    if (view.title) holder.append(element("span", {}, view.title));
    return { holder, draw: () => draw(canvas, view, gallery, state) };
  }

  function enlarge(picture, gallery, state) {
    const shown = picture.views.map((view) => viewOf(view, gallery, { ...state, names: true }, picture.name, "div"));
    dialog.querySelector(".large").replaceChildren(...shown.map((one) => one.holder));
    dialog.querySelector("p").textContent = [picture.name, ...picture.lines].join(" · ");
    dialog.showModal();
    for (const one of shown) one.draw();
  }

  function toolbar(gallery, state, redraw) {
    const has = (key) => gallery.pictures.some((picture) => picture.views.some((view) => (key === "masks" ? view.masks : view[key].length)));
    const bar = element("div", { class: "toolbar" });
    if (!has("truth") && !has("found") && !has("masks")) return bar;
    for (const [key, text, dashed] of [["truth", "annotated", true], ["found", "predicted", false]]) {
      const box = element("input", { type: "checkbox", name: key });
      box.checked = true;
      box.addEventListener("change", () => { state[key] = box.checked; redraw(); });
      bar.append(element("label", {}, box, element("i", { class: `swatch-line${dashed && !has("masks") ? " dashed" : ""}` }), has("masks") ? `${text} (${dashed ? "outline" : "filled"})` : text));
    }
    if (has("found")) {
      const measured = Object.values(gallery.thresholds), start = measured.length ? measured.reduce((a, b) => a + b) / measured.length : 0.5;
      const slider = element("input", { type: "range", name: "score", min: "0.05", max: "1", step: "0.01", value: String(start) });
      const shown = element("output", {}, measured.length ? "as measured" : "0.50");
      slider.addEventListener("input", () => { state.least = Number(slider.value); shown.textContent = state.least.toFixed(2); redraw(); });
      bar.append(element("label", {}, "score from", slider, shown));
    }
    bar.append(legend(gallery, state, redraw));
    return bar;
  }

  function legend(gallery, state, redraw) {
    const keys = element("div", { class: "keys" });
    for (const [value, [name, colour]] of Object.entries(gallery.classes).slice(0, 100)) {
      const swatch = element("i"), key = element("button", { type: "button", class: "key swatch", "aria-pressed": "true" }, swatch, name);
      swatch.style.background = colour;
      key.addEventListener("click", () => {
        if (!state.off.delete(value)) state.off.add(value);
        key.setAttribute("aria-pressed", String(!state.off.has(value)));
        redraw();
      });
      keys.append(key);
    }
    return keys;
  }

  function build(block) {
    const gallery = payload.galleries[Number(block.dataset.gallery)];
    const state = { truth: true, found: true, least: null, off: new Set(), names: false };
    const drawers = new Map(), visible = new Set();
    const redraw = () => visible.forEach((holder) => drawers.get(holder)());
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) { visible.delete(entry.target); continue; }
        visible.add(entry.target);
        drawers.get(entry.target)();
      }
    }, { rootMargin: "300px" });
    const several = gallery.pictures.some((picture) => picture.views.length > 1);
    const list = element("div", { class: `pictures${several ? " pairs" : ""}` });
    for (const picture of gallery.pictures) {
      const views = element("div", { class: "views" });
      for (const view of picture.views) {
        const one = viewOf(view, gallery, state, [picture.name, ...picture.lines].join(", "), "button");
        one.holder.addEventListener("click", () => enlarge(picture, gallery, state));
        drawers.set(one.holder, one.draw);
        watcher.observe(one.holder);
        views.append(one.holder);
      }
      list.append(element("figure", { class: "picture" }, views, element("figcaption", {}, element("b", {}, picture.name), picture.lines.join(" · "))));
    }
    block.append(toolbar(gallery, state, redraw), list);
    window.addEventListener("beforeprint", () => drawers.forEach((one) => one()));
    new ResizeObserver(redraw).observe(list);
  }

  document.querySelectorAll("[data-gallery]").forEach(build);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
})();
