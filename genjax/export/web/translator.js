// A photograph, and its translations.
const given = element("canvas", { id: "given", width: 320, height: 240 });
const [input, choose] = picker("Choose a picture", "file");
choose.classList.add("first");
const size = element("select", { id: "size", ariaLabel: "longest side" });
for (const side of [64, 128, 256, 512, 1024])
  size.append(element("option", { value: side, selected: side === settings.side }, `at most ${side} pixels`));
const figures = element("div", { className: "pictures" },
  element("figure", {}, given, element("figcaption", {}, "given: choose a picture or drop one here")));
const outputs = settings.programs.map((program) => {
  const [canvas, caption] = [element("canvas", { id: program, width: 320, height: 240 }), element("figcaption")];
  caption.textContent = program === "a2b" ? "A to B" : "B to A";
  const save = element("button", { onclick: () => saved(canvas, program) }, "Save");
  figures.append(element("figure", {}, canvas, caption, element("div", { className: "row" }, save)));
  return [program, canvas, caption];
});
$("main").append(element("div", { className: "row" }, choose, size), figures);

let picture;

function saved(canvas, name) {
  element("a", { href: canvas.toDataURL("image/png"), download: `${name}.png` }).click();
}

// Rows or columns up to a size that the generator accepts, mirrored as genjax does.
function padded(data, height, width, channels) {
  const accepted = (side) => Math.max(settings.smallest, Math.ceil(side / settings.unit) * settings.unit);
  const mirrored = (i, side) => { const j = i % (2 * side); return j < side ? j : 2 * side - 1 - j; };
  const [rows, columns] = [accepted(height), accepted(width)];
  const out = new Float32Array(rows * columns * channels);
  for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) for (let c = 0; c < channels; c++)
    out[(y * columns + x) * channels + c] =
      data[(mirrored(y, height) * width + mirrored(x, width)) * channels + c];
  return { data: out, shape: [1, rows, columns, channels] };
}

async function translate() {
  const scale = Math.min(1, Number(size.value) / Math.max(picture.width, picture.height));
  const [height, width] = [picture.height, picture.width].map((side) => Math.max(1, Math.round(side * scale)));
  draw(picture, given, height, width);
  for (const [program, canvas, caption] of outputs) {
    say(`translating ${program}`);
    const channels = settings.channels[program], began = performance.now();
    const { translated } = await run(program, { images: padded(toFloats(given, channels), height, width, channels) });
    show(canvas, translated, height, width);
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    caption.textContent = `${program === "a2b" ? "A to B" : "B to A"}, ${width} x ${height}, ${seconds} s`;
  }
}

onPicture(input, given, async (bitmap) => { picture = bitmap; await translate(); });
size.addEventListener("change", () => picture && busy("translating", translate));
