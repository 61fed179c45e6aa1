// <retrieval-player>: an episode, step by step: the state, what was retrieved with its weight, Q of each action.
// Its data are made by rarl/reporting/player.py; one picture, the sheet, holds all pictures.
(() => {
  "use strict";
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const SVG = "http://www.w3.org/2000/svg";

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const short = (value) => Number(value.toPrecision(3)).toLocaleString("en");

  class RetrievalPlayer extends HTMLElement {
    connectedCallback() {
      if (this.what) return;
      this.what = JSON.parse(this.querySelector("script[type='application/json']").textContent);
      this.sheet = (this.getAttribute("root") ?? "") + this.what.sheet;
      this.build();
      this.show(0);
      this.classList.add("drawn");
    }

    disconnectedCallback() {
      this.pause();
    }

    // A part of the sheet as a picture of its own.
    picture() {
      const svg = document.createElementNS(SVG, "svg"), image = document.createElementNS(SVG, "image");
      const [width, height] = this.what.size;
      svg.setAttribute("role", "img");
      for (const [name, value] of Object.entries({ href: this.sheet, width, height })) image.setAttribute(name, value);
      svg.append(image);
      return svg;
    }

    part(svg, box, label) {
      const [, , width, height] = this.what.boxes[box];
      svg.setAttribute("viewBox", this.what.boxes[box].join(" "));
      svg.style.aspectRatio = `${width} / ${height}`; // of another shape, it would show what is beside it
      svg.setAttribute("aria-label", label);
    }

    build() {
      const { title, about, note, steps, actions, retrieved } = this.what;
      const button = (text, label, action) => {
        const made = make("button", { type: "button", textContent: text, title: label });
        made.setAttribute("aria-label", label);
        made.addEventListener("click", action);
        return made;
      };
      this.back = button("◀", "Step back", () => this.step(-1));
      this.toggle = button("▶▶", "Play", () => (this.timer ? this.pause() : this.play()));
      this.on = button("▶", "Step on", () => this.step(1));
      this.slider = make("input", { type: "range", min: 0, max: steps.length - 1, value: 0 });
      this.slider.setAttribute("aria-label", "Step of the episode");
      this.slider.addEventListener("input", () => { this.pause(); this.show(Number(this.slider.value)); });
      this.says = make("output", { className: "player-says" });
      this.state = this.picture();
      this.bars = actions.map((name) => {
        const bar = make("span", { className: "player-bar" }), number = make("td");
        return { name, bar, number, row: make("tr", {}, make("th", { scope: "row", textContent: name }), make("td", {}, bar), number) };
      });
      const most = Math.max(0, ...steps.map((step) => step.retrieved.length));
      const max = Math.max(0, ...steps.flatMap((step) => step.retrieved.map(([, weight]) => weight)));
      this.cards = Array.from({ length: most }, () => {
        const picture = this.picture(), meter = make("meter", { max }), weight = make("b"), text = make("span");
        return { picture, meter, weight, text, item: make("li", {}, picture, make("div", {}, weight, meter, text)) };
      });
      const parts = [make("div", { className: "player-state" }, this.state, this.says)];
      if (actions.length) parts.push(make("table", { className: "player-q" }, make("caption", { textContent: "Q of each action" }), ...this.bars.map((bar) => bar.row)));
      if (retrieved.length) parts.push(make("div", { className: "player-retrieved" }, make("p", { textContent: "Retrieved, largest weights" }), make("ol", {}, ...this.cards.map((card) => card.item))));
      const live = make("div", { className: "player-live", role: "group" },
        make("p", { className: "player-title" }, make("b", { textContent: title }), about ? ` “${about}”` : ""),
        make("div", { className: "player-controls" }, this.back, this.toggle, this.on, this.slider),
        make("div", { className: "player-parts" }, ...parts));
      live.setAttribute("aria-label", `Episode: ${title}`);
      if (note) live.append(make("p", { className: "player-note", textContent: note }));
      this.append(live);
    }

    show(i) {
      const step = this.what.steps[(this.i = i)], [low, high] = this.what.q ?? [0, 1];
      const ends = step.action === undefined;
      const sum = step.total === null ? "" : `, return ${ends ? "" : "so far "}${short(step.total)}`;
      const text = `Step ${step.t}: ${ends ? "the end" : `${step.action}, reward ${short(step.reward)}`}${sum}`;
      this.says.textContent = text;
      this.says.setAttribute("aria-live", this.timer ? "off" : "polite");
      this.slider.value = i;
      this.slider.setAttribute("aria-valuetext", text);
      this.part(this.state, step.box, `State at step ${step.t}`);
      this.back.disabled = i === 0;
      this.on.disabled = i === this.what.steps.length - 1;
      this.bars.forEach(({ name, bar, number, row }, k) => {
        const q = step.q?.[k];
        bar.style.width = q === undefined ? 0 : `${(100 * (q - low)) / (high - low || 1)}%`;
        number.textContent = q === undefined ? "" : short(q);
        row.classList.toggle("taken", name === step.action);
        row.toggleAttribute("aria-current", name === step.action);
      });
      this.cards.forEach(({ picture, meter, weight, text, item }, k) => {
        item.hidden = !step.retrieved[k];
        if (item.hidden) return;
        const [which, share] = step.retrieved[k], { box, text: says, rewarded } = this.what.retrieved[which];
        this.part(picture, box, `Retrieved: ${says}`);
        picture.classList.toggle("rewarded", rewarded);
        meter.value = share;
        weight.textContent = `weight ${share.toFixed(3)}`;
        text.textContent = says + (rewarded ? ", rewarded" : "");
      });
    }

    step(by) {
      this.pause();
      this.show(Math.min(Math.max(this.i + by, 0), this.what.steps.length - 1));
    }

    play() {
      const last = this.what.steps.length - 1;
      if (this.i === last) this.show(0);
      const pace = still.matches ? Math.max(1000, this.what.milliseconds) : this.what.milliseconds;
      this.timer = setInterval(() => (this.i === last ? this.pause() : this.show(this.i + 1)), pace);
      this.label("❚❚", "Pause");
    }

    pause() {
      clearInterval(this.timer);
      this.timer = undefined;
      this.label("▶▶", "Play");
    }

    label(text, label) {
      this.toggle.textContent = text;
      this.toggle.title = label;
      this.toggle.setAttribute("aria-label", label);
    }
  }
  customElements.define("retrieval-player", RetrievalPlayer);
})();
