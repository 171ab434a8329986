"use strict";
// Details of a mark under the pointer; in a focused picture the arrow keys go from mark to mark.
(function () {
  const tip = document.getElementById("tip");
  let shown = null;
  function hide() {
    if (shown) shown.classList.remove("on");
    shown = null;
    tip.hidden = true;
  }
  function show(mark, x, y) {
    if (shown !== mark) {
      hide();
      shown = mark;
      mark.classList.add("on");
      tip.textContent = mark.dataset.tip;
      tip.hidden = false;
    }
    const left = Math.min(x + 14, innerWidth - tip.offsetWidth - 8);
    const below = y + 18 + tip.offsetHeight;
    tip.style.left = Math.max(8, left) + "px";
    tip.style.top = (below > innerHeight ? Math.max(8, y - 14 - tip.offsetHeight) : y + 18) + "px";
  }
  document.addEventListener("pointermove", function (event) {
    const mark = event.target.closest ? event.target.closest("[data-tip]") : null;
    if (mark) show(mark, event.clientX, event.clientY);
    else if (shown) hide();
  });
  document.addEventListener("pointerdown", function (event) {
    const mark = event.target.closest ? event.target.closest("[data-tip]") : null;
    if (mark) show(mark, event.clientX, event.clientY);
  });
  addEventListener("scroll", hide, { passive: true });
  document.querySelectorAll("svg.picture").forEach(function (picture) {
    const marks = Array.from(picture.querySelectorAll("[data-tip]"));
    if (!marks.length) return;
    picture.setAttribute("tabindex", "0");
    picture.addEventListener("blur", hide);
    picture.addEventListener("keydown", function (event) {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!by) return;
      event.preventDefault();
      const next = (marks.indexOf(shown) + by + marks.length + (shown || by > 0 ? 0 : 1)) % marks.length;
      const box = marks[next].getBoundingClientRect();
      show(marks[next], box.left + Math.min(box.width, 200) / 2, box.top + Math.min(box.height, 60) / 2);
    });
  });
})();
