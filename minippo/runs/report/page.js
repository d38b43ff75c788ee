"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (words, root = document) => Array.from(root.querySelectorAll(words));
  const one = (name) => document.getElementById(name);
  const show = (number) => (number === null ? "\u2013" : String(Number(number.toPrecision(3))));

  // -- the cursor: one update, read off all panels at once

  const figures = all(".panel").map((root, i) => ({
    root, about: data.panels[i], readout: root.querySelector(".readout"),
    line: root.querySelector(".cursor"), spots: all(".spot", root),
  }));
  const updates = Array.from(new Set(data.panels.flatMap((p) => p.lines.flatMap((l) => l.x))));
  updates.sort((a, b) => a - b);
  let at = null;

  function nearest(values, wanted) {
    let best = 0;
    values.forEach((value, i) => {
      if (Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = i;
    });
    return best;
  }

  function place(figure, update) {
    const [left, right, top, bottom, x0, x1, y0, y1] = figure.about.frame;
    const across = left + ((update - x0) / (x1 - x0)) * (right - left);
    figure.line.setAttribute("d", `M${across} ${top}V${bottom}`);
    figure.line.setAttribute("visibility", "visible");
    const many = figure.about.lines.length > 1;
    const said = figure.about.lines.map((line, i) => {
      const index = line.x.indexOf(update);
      const value = index < 0 ? null : line.y[index];
      const spot = figure.spots[i];
      spot.setAttribute("visibility", value === null ? "hidden" : "visible");
      if (value !== null) {
        spot.setAttribute("cx", across);
        spot.setAttribute("cy", bottom - ((value - y0) / (y1 - y0)) * (bottom - top));
      }
      return (many ? line.name + " " : "") + show(value);
    });
    figure.readout.textContent = `update ${update}: ${said.join("; ")}`;
    figure.readout.classList.add("live");
  }

  function move(index) {
    at = Math.max(0, Math.min(updates.length - 1, index));
    figures.forEach((figure) => place(figure, updates[at]));
  }

  function rest() {
    at = null;
    for (const figure of figures) {
      figure.line.setAttribute("visibility", "hidden");
      figure.spots.forEach((spot) => spot.setAttribute("visibility", "hidden"));
      figure.readout.textContent = figure.readout.dataset.rest;
      figure.readout.classList.remove("live");
    }
  }

  for (const figure of figures) {
    const svg = figure.root.querySelector("svg");
    const point = (event) => {
      const box = svg.getBoundingClientRect();
      const [left, right, , , x0, x1] = figure.about.frame;
      const x = ((event.clientX - box.left) / box.width) * figure.about.width;
      move(nearest(updates, x0 + ((x - left) / (right - left)) * (x1 - x0)));
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", rest);
    figure.root.addEventListener("blur", rest);
    figure.root.addEventListener("keydown", (event) => {
      const last = updates.length - 1;
      const next = {
        ArrowLeft: at === null ? last : at - 1, ArrowRight: at === null ? 0 : at + 1,
        Home: 0, End: last,
      }[event.key];
      if (event.key === "Escape") rest();
      if (next === undefined) return;
      event.preventDefault();
      move(next);
    });
  }

  // -- samples over time: one moment, chosen with a slider

  const slider = one("moment");
  if (slider) {
    const table = document.querySelector(".moments"), which = one("which"), every = one("all");
    const rows = all("tr[data-update]", table);
    let playing = null;
    const choose = () => {
      const update = data.moments[Number(slider.value)];
      rows.forEach((row) => row.classList.toggle("on", Number(row.dataset.update) === update));
      table.classList.toggle("one", !every.checked);
      which.textContent = every.checked ? "all" : data.means[Number(slider.value)];
      slider.setAttribute("aria-valuetext", `update ${update}`);
    };
    const stop = () => {
      clearInterval(playing);
      playing = null;
      one("play").textContent = "play";
    };
    const go = () => {
      choose();
      const index = updates.indexOf(data.moments[Number(slider.value)]);
      if (index < 0) rest(); else move(index);
    };
    slider.addEventListener("input", () => { stop(); go(); });
    every.addEventListener("change", choose);
    one("play").addEventListener("click", () => {
      if (playing !== null) return stop();
      every.checked = false;
      if (Number(slider.value) >= data.moments.length - 1) slider.value = "0";
      go();
      one("play").textContent = "stop";
      playing = setInterval(() => {
        slider.value = String(Number(slider.value) + 1);
        go();
        if (Number(slider.value) >= data.moments.length - 1) stop();
      }, 900);
    });
    slider.closest(".slider").hidden = false;
    choose();
  }

  // -- the table of samples: only rows that hold every word

  const search = one("search");
  if (search) {
    const rows = all(".samples tbody tr").map((row) => [row, row.textContent.toLowerCase()]);
    const filter = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let found = 0;
      for (const [row, text] of rows) {
        row.hidden = !words.every((word) => text.includes(word));
        found += row.hidden ? 0 : 1;
      }
      one("found").textContent = `${found} of ${rows.length}`;
    };
    search.addEventListener("input", filter);
    const order = one("order"), body = rows.length ? rows[0][0].parentNode : null;
    const last = (row, name) => {
      const marks = all(`[data-${name}]`, row);
      return marks.length ? Number(marks[marks.length - 1].dataset[name]) : null;
    };
    order.addEventListener("change", () => {
      const name = order.value, sign = name === "gold" ? 1 : -1;
      const sorted = rows.map(([row], i) => [name ? last(row, name) : i, i, row]);
      sorted.sort((a, b) => (name ? sign * (a[0] - b[0]) : 0) || a[1] - b[1]);
      sorted.forEach(([, , row]) => body.append(row));
    });
    search.closest(".search").hidden = false;
    filter();
  }

  // -- the strips: the numbers of the token that is pointed at

  for (const strip of all(".strip")) {
    const tokens = all(".token", strip), told = strip.querySelector(".told");
    told.hidden = false;
    told.textContent = "";
    tokens.forEach((token, i) => {
      const tell = () => { told.textContent = token.title; };
      token.addEventListener("pointerenter", tell);
      token.addEventListener("focus", tell);
      token.addEventListener("keydown", (event) => {
        const next = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: tokens.length - 1 }[event.key];
        if (next === undefined || !tokens[next]) return;
        event.preventDefault();
        token.tabIndex = -1;
        tokens[next].tabIndex = 0;
        tokens[next].focus();
      });
    });
  }
  const shade = one("shade");
  if (shade) {
    const paint = () => all(".token").forEach((token) => {
      const level = Number(token.dataset.levels.split(" ")[Number(shade.value)]);
      token.className = `token ${level > 0 ? "p" + level : level < 0 ? "n" + -level : "zero"}`;
    });
    shade.addEventListener("change", paint);
    shade.closest(".shade").hidden = false;
    paint();
  }

  // -- paper shows what is folded away

  const folded = all("details");
  let open = [];
  addEventListener("beforeprint", () => {
    open = folded.map((item) => item.open);
    folded.forEach((item) => { item.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((item, i) => { item.open = open[i]; }));
})();
