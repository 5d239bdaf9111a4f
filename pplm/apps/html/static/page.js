"use strict";
// Tabs, the details of a token, the choice of what texts are shaded by. All text goes in as text, never as HTML.
(() => {
  const trace = JSON.parse(document.getElementById("trace").textContent);
  const find = (selector, within = document) => [...within.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  document.documentElement.classList.add("scripted");

  // Numbers as shown.py writes them.
  const digits = (value) => (value && Math.abs(value) < 1e-5 ? "≈0" : String(Number(value.toPrecision(3))));
  const number = (value) => (value === null ? "—" : digits(value));
  const percent = (share) =>
    share === null ? "—" : share > 0 && share < 1e-5 ? "<0.001%" : digits(share * 100) + "%";
  const points = (gain) =>
    gain === null ? "—" : Math.abs(gain) < 1e-5 ? "±0 points" : (gain > 0 ? "+" : "-") + digits(Math.abs(gain) * 100) + " points";
  const visible = (text) => (text.trim() ? text : text.replace(/ /g, "␣")).replace(/\n/g, "↵") || "∅";

  const make = (tag, content = "", classes = "") => {
    const element = document.createElement(tag);
    element.textContent = content;
    element.className = classes;
    return element;
  };
  const exact = (value, shown) => {
    const element = make("data", shown);
    element.value = value === null ? "" : String(value);
    return element;
  };

  // The details of a token
  let current = null;
  const told = new Map(); // what a screen reader is given about a token

  const item = (name, ...values) => {
    const line = make("div"), cell = make("dd");
    cell.append(...values);
    line.append(make("dt", name), cell);
    return line;
  };

  const numbersOf = (token) => {
    const items = trace.attributes.map(({ name }) => {
      const level = token.levels[name];
      return level
        ? item(name, exact(level.unsteered, percent(level.unsteered)), " → ", exact(level.final, percent(level.final)),
            " (", exact(level.gain, points(level.gain)), ")")
        : item(name, "no level");
    });
    const moved = token.step_length === null ? "not steered" : exact(token.step_length, number(token.step_length));
    return items.concat(
      item("KL", exact(token.kl, number(token.kl)), " nats"),
      item("length of the steps", moved),
      item("steered share", exact(token.gm_scale, percent(token.gm_scale))),
      item("the batch's step took", exact(token.seconds, number(token.seconds)), " s"),
    );
  };

  const likeliest = (list, drawn, most) =>
    list.map(({ token_id, text, probability }) => {
      const line = make("li", "", token_id === drawn ? "drawn" : "");
      const bar = make("span", "", "bar"), fill = make("i");
      fill.style.width = (100 * probability) / most + "%";
      bar.append(fill);
      bar.setAttribute("aria-hidden", "true");
      line.append(make("span", visible(text), "sample"), bar, exact(probability, percent(probability)));
      return line;
    });

  const place = (element) => {
    const number = Number(element.closest("[data-text]").dataset.text);
    return { number, index: Number(element.dataset.token), text: trace.texts[number] };
  };

  const show = (element) => {
    if (current === element) return;
    current?.removeAttribute("aria-current");
    for (const cursor of find(".cursor")) cursor.setAttribute("d", "");
    current = element;
    element.setAttribute("aria-current", "true");
    const { number: which, index, text } = place(element);
    const token = text.tokens[index];
    byId("where").textContent = `${text.steered ? "Steered" : "Unsteered"}, token ${index + 1} of ${text.tokens.length}`;
    byId("what").textContent = visible(token.text);
    byId("words").textContent = token.words.length ? "word of " + token.words.join(", ") : "";
    byId("numbers").replaceChildren(...numbersOf(token));
    const { unsteered, final } = token.likeliest;
    const most = Math.max(...[...unsteered, ...final].map(({ probability }) => probability));
    byId("unsteered").replaceChildren(...likeliest(unsteered, token.token_id, most));
    byId("final").replaceChildren(...likeliest(final, token.token_id, most));
    for (const cursor of find(`.charts[data-text="${which}"] .cursor`)) {
      cursor.setAttribute("d", `M${index + 0.5} 0V100`);
    }
  };

  // The token that is shown first: that of the steered text, or the only one, with the largest gain.
  const example = (pair) => {
    pair.querySelector(".columns").after(byId("details"));
    const gains = (element) => {
      const { index, text } = place(element);
      const wanted = ({ name, avoids }) => (avoids ? -1 : 1) * (text.tokens[index].levels[name]?.gain ?? 0);
      return trace.attributes.reduce((sum, attribute) => sum + wanted(attribute), 0);
    };
    const tokens = find(".token", pair.querySelector(".text"));
    byId("details").classList.remove("following");
    byId("details").hidden = tokens.length === 0;
    if (tokens.length) show(tokens.reduce((best, token) => (gains(token) > gains(best) ? token : best)));
  };

  // One token of a text can be reached by Tab; from there on, arrow keys.
  const focus = (tokens, index) => {
    const token = tokens[Math.max(0, Math.min(index, tokens.length - 1))];
    for (const other of tokens) other.tabIndex = other === token ? 0 : -1;
    token.focus();
  };

  for (const text of find(".text")) {
    const tokens = find(".token", text);
    text.setAttribute("role", "group");
    text.setAttribute("aria-label", trace.texts[Number(text.dataset.text)].steered ? "Steered text" : "Unsteered text");
    tokens.forEach((token, index) => {
      told.set(token, token.title);
      token.removeAttribute("title");  // the details below take its place
      token.setAttribute("role", "button");
      const text = token.textContent;
      if (!text.trim()) token.setAttribute("aria-label", !text ? "no text" : text.includes("\n") ? "new line" : "space");
      token.tabIndex = index ? -1 : 0;
    });
    const seen = (event) => {
      const token = event.target.closest(".token");
      if (token) show(token);
    };
    text.addEventListener("pointerover", seen);
    text.addEventListener("focusin", (event) => {
      seen(event);
      byId("details").classList.add("following"); // stays in view; the tokens' scroll margins keep it off them
      byId("announced").textContent = told.get(event.target) ?? "";
    });
    text.addEventListener("click", (event) => {
      const token = event.target.closest(".token");
      if (token) focus(tokens, tokens.indexOf(token));
    });
    text.addEventListener("keydown", (event) => {
      const index = tokens.indexOf(event.target);
      const steps = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tokens.length - 1 };
      if (index < 0 || !(event.key in steps)) return;
      event.preventDefault();
      focus(tokens, steps[event.key]);
    });
  }
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".text, #details")) byId("details").classList.remove("following");
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") byId("details").classList.remove("following");
  });

  for (const charts of find(".charts")) {
    const tokens = find(`.text[data-text="${charts.dataset.text}"] .token`);
    for (const plot of find("svg", charts)) {
      plot.addEventListener("pointermove", (event) => {
        const box = plot.getBoundingClientRect();
        const index = Math.floor(((event.clientX - box.left) / box.width) * tokens.length);
        if (tokens[index]) show(tokens[index]);
      });
    }
  }

  // Tabs
  const pairs = find(".pair");
  const select = (chosen, focused) => {
    find("#tabs [role=tab]").forEach((tab, index) => {
      tab.setAttribute("aria-selected", String(index === chosen));
      tab.tabIndex = index === chosen ? 0 : -1;
      pairs[index].hidden = index !== chosen;
      if (focused && index === chosen) tab.focus();
    });
    example(pairs[chosen]);
  };
  if (pairs.length > 1) {
    const tabs = byId("tabs");
    tabs.hidden = false;
    tabs.setAttribute("role", "tablist");
    pairs.forEach((pair, index) => {
      const tab = make("button", pair.dataset.title);
      tab.type = "button";
      tab.id = `tab-${index + 1}`;
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", pair.id);
      pair.setAttribute("role", "tabpanel");
      pair.setAttribute("aria-labelledby", tab.id);
      tab.addEventListener("click", () => select(index, false));
      tabs.append(tab);
    });
    tabs.addEventListener("keydown", (event) => {
      const now = find("[role=tab]", tabs).indexOf(document.activeElement), last = pairs.length - 1;
      const steps = { ArrowRight: now === last ? 0 : now + 1, ArrowLeft: now === 0 ? last : now - 1, Home: 0, End: last };
      if (now < 0 || !(event.key in steps)) return;
      event.preventDefault();
      select(steps[event.key], true);
    });
    select(0, false);
  } else {
    byId("tabs").remove();
    example(pairs[0]);
  }

  // What texts are shaded by
  byId("shade-by")?.addEventListener("change", (event) => {
    for (const token of find(".text .token")) {
      token.dataset.shade = token.dataset.shades.split(" ")[Number(event.target.value)];
    }
  });

  // The command
  if (navigator.clipboard) {
    const copy = byId("copy");
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(trace.command);
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    });
  }
})();
