// <data-chart>: a static picture, and a JSON document of controls, Vega-Lite views and the CSV that they draw.
// It is made by rarl/reporting/charts.py. The picture is shown until the chart is, and in print.
(() => {
  "use strict";
  const here = document.currentScript.src;
  let vega; // loaded once, when the first chart comes into view

  const load = () => (vega ??= new Promise((done, failed) => {
    const script = Object.assign(document.createElement("script"), {
      src: new URL("vega.js", here), onload: () => done(window.vegaEmbed), onerror: failed });
    document.head.append(script);
  }));

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  const svg = (tag, attributes, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  // How an option is drawn in the chart.
  const sample = ({ colour, shape, dash }) => svg("svg",
    { viewBox: dash ? "-14 -6 28 12" : "-6 -6 12 12", height: 12, "aria-hidden": true },
    ...(dash ? [svg("path", { d: "M-14,0H14", stroke: colour, "stroke-width": 2.2, "stroke-dasharray": dash.join(" ") })] : []),
    svg("path", { d: shape, fill: colour, transform: "scale(4)" }));

  class DataChart extends HTMLElement {
    connectedCallback() {
      if (this.seen) return;
      this.seen = new IntersectionObserver((entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        this.seen.disconnect();
        this.draw().catch((error) => console.error("chart", error)); // the picture stays
      }, { rootMargin: "200px" });
      this.seen.observe(this);
    }

    async draw() {
      const embed = await load();
      const what = JSON.parse(this.querySelector("script[type='application/json']").textContent);
      const places = what.views.map(() => make("div", { className: "chart-view" }));
      const live = make("div", { className: "chart-live" },
        make("div", { className: "chart-controls" }, ...what.controls.map((control) => this.control(control))),
        make("div", { className: "chart-views" }, ...places));
      const picture = this.querySelector("img"), font = getComputedStyle(this).fontFamily;
      this.append(live);
      this.showOptions(what.controls.find((control) => control.param === "panel").value);
      this.views = await Promise.all(what.views.map(async (spec, i) => {
        const data = { values: what.csv, format: spec.data.format };
        const { view } = await embed(places[i], { ...spec, data, config: { ...spec.config, font } }, {
          actions: false, logLevel: 1, renderer: "svg", defaultStyle: false, tooltip: { disableDefaultStyle: true } });
        if (picture) places[i].setAttribute("aria-label", picture.alt);
        places[i].setAttribute("role", "img");
        places[i].querySelector("svg").setAttribute("aria-hidden", "true"); // marks without names
        if (what.click) view.addEventListener("click", (_, item) => {
          if (item?.datum?.[what.click]) this.choose(what.click, item.datum[what.click]);
        });
        return view;
      }));
      this.classList.add("drawn");
    }

    // A control of a parameter: a list, or a box for each option.
    control({ param, label, type, value, options }) {
      if (type === "select") {
        const list = make("select", { name: param }, ...options.map((o) => make("option", { value: o.value, textContent: o.label })));
        list.value = value;
        list.addEventListener("change", () => this.choose(param, list.value));
        return make("label", { hidden: options.length < 2 }, `${label} `, list);
      }
      const boxes = options.map((o) => make("input", { type: "checkbox", name: param, value: o.value, checked: true }));
      const changed = () => this.set(param, boxes.filter((box) => box.checked).map((box) => box.value));
      return make("fieldset", {}, make("legend", { textContent: label }), ...options.map((o, i) => {
        boxes[i].addEventListener("change", changed);
        const item = make("label", {}, boxes[i], ...(o.shape ? [sample(o)] : []), ` ${o.label}`);
        if (o.panels) item.dataset.panels = JSON.stringify(o.panels);
        return item;
      }));
    }

    // What is chosen in a list, by it or in the chart.
    choose(param, value) {
      this.querySelector(`select[name="${param}"]`).value = value;
      if (param === "panel") this.showOptions(value);
      this.set(param, value);
    }

    showOptions(panel) {
      for (const item of this.querySelectorAll("[data-panels]")) item.hidden = !JSON.parse(item.dataset.panels).includes(panel);
    }

    set(param, value) {
      for (const view of this.views ?? []) view.signal(param, value).runAsync();
    }
  }
  customElements.define("data-chart", DataChart);
})();
