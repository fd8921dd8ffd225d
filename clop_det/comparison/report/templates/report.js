"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const made = (tag, content = {}, ...inside) => {
    const element = Object.assign(document.createElement(tag), content);
    element.append(...inside);
    return element;
  };

  // Tables: a click on a column's name sorts by it, the largest first, then the smallest; what is missing stands last.
  const value = cell => {
    const text = cell.textContent.trim();
    if (/^\d+(:\d\d)+$/.test(text)) return text.split(":").reduce((sum, part) => 60 * sum + Number(part), 0);
    const found = text.replace(/,/g, "").match(/^[+-]?\d+(\.\d+)?/);
    return found ? Number(found[0]) : text === "\u2013" || text === "" ? null : text;
  };
  const compared = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" && typeof b === "number" ? b - a : String(a).localeCompare(String(b)));
  };
  for (const table of all("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = made("button", { type: "button", title: "sort by this column" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const sign = head.ariaSort === "descending" ? -1 : 1;
        heads.forEach(other => other.removeAttribute("aria-sort"));
        head.ariaSort = sign > 0 ? "descending" : "ascending";
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => compared(value(a.cells[column]), value(b.cells[column]), sign));
        table.tBodies[0].append(...rows);
      });
    });
  }

  // Drawings become part of the page, so that what they show of a row lights up, too.
  for (const image of all("img.plot")) {
    const bytes = Uint8Array.from(atob(image.src.split(",")[1]), character => character.charCodeAt(0));
    const parsed = new DOMParser().parseFromString(new TextDecoder().decode(bytes), "image/svg+xml");
    const svg = document.importNode(parsed.documentElement, true);
    for (const [name, text] of [["class", "plot"], ["role", "img"], ["aria-label", image.alt]]) svg.setAttribute(name, text);
    image.replaceWith(svg);
  }

  // A row that is clicked lights up in every table, drawing and gallery; a second click ends it.
  let lit = "";
  document.addEventListener("click", event => {
    const hit = event.target.closest("[data-row]");
    if (!hit || !/^\d+$/.test(hit.dataset.row)) return; // a line over several rows is none of them
    lit = lit === hit.dataset.row ? "" : hit.dataset.row;
    all("[data-row]").forEach(element => element.classList.toggle("lit", element.dataset.row.split(" ").includes(lit)));
    all("svg.plot").forEach(svg => svg.classList.toggle("dimmed", Boolean(svg.querySelector(".lit"))));
  });

  // Galleries: hide initialisations, or lay two of them over each other under a slider.
  for (const gallery of all(".gallery")) {
    const names = [...new Set(all("figure", gallery).map(figure => figure.dataset.tile))];
    const of = (scene, name) => all("figure[data-tile]", scene).find(figure => figure.dataset.tile === name);
    const boxes = names.map(name => {
      const box = made("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => all("figure[data-tile]", gallery)
        .filter(figure => figure.dataset.tile === name).forEach(figure => figure.classList.toggle("hidden", !box.checked)));
      return made("label", {}, box, ` ${name}`);
    });
    const [left, right] = [0, names.length - 1].map(chosen =>
      made("select", {}, ...names.map((name, place) => made("option", { selected: place === chosen }, name))));
    const slider = made("input", { type: "range", min: 0, max: 100, value: 50, title: "where the second begins" });
    const paired = made("input", { type: "checkbox" });
    const show = () => {
      gallery.classList.toggle("paired", paired.checked);
      gallery.style.setProperty("--cut", `${slider.value}%`);
      all(".pair", gallery).forEach(pair => pair.remove());
      if (!paired.checked) return;
      for (const scene of all(".scene", gallery)) {
        const chosen = [left, right].map(select => of(scene, select.value)).filter(Boolean);
        const images = chosen.map(figure => made("img", { src: figure.querySelector("img").src, alt: figure.dataset.tile }));
        const text = chosen.map(figure => figure.querySelector("figcaption").textContent).join(" | ");
        scene.append(made("figure", { className: "pair" }, made("div", {}, ...images), made("figcaption", {}, text)));
      }
    };
    [left, right, slider, paired].forEach(control => control.addEventListener("input", show));
    gallery.before(made("div", { className: "tools" }, ...boxes), made("div", { className: "tools" },
      made("label", {}, paired, " two under a slider: "), left, slider, right));
  }
})();
