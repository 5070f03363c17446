// Point at a row of the table, or at a curve, and the other curves of its scene step back.
for (const scene of document.querySelectorAll(".scene")) {
  const series = [...scene.querySelectorAll(".series")];
  const rows = [...scene.querySelectorAll("tr[data-series]")];
  const placeOf = (element) => [...element.classList].find((c) => c.startsWith("series-")).split("-")[1];
  const show = (place) => {
    for (const element of series) element.classList.toggle("off", place !== null && placeOf(element) !== place);
    for (const row of rows) row.classList.toggle("on", row.dataset.series === place);
  };
  for (const [elements, key] of [[rows, (row) => row.dataset.series], [series, placeOf]]) {
    for (const element of elements) {
      element.addEventListener("pointerenter", () => show(key(element)));
      element.addEventListener("pointerleave", () => show(null));
      element.addEventListener("focus", () => show(key(element)));
      element.addEventListener("blur", () => show(null));
    }
  }
}
