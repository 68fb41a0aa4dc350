// The latents of a VAE: sliders, the way between two pictures, and a hole that the encoder completes.
const [height, width, channels] = settings.shape, dims = settings.latent_dim;
const tensor = (data) => ({ data, shape: [1, height, width, channels] });

async function encode(data) { return (await run("encode", { images: tensor(data) })).mean.data; }
async function decode(e) { return (await run("decode", { e: { data: e, shape: [1, dims] } })).images; }

function normal() { // Box and Muller 1958
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}
const drawn = () => Float32Array.from({ length: dims }, normal);

function section(title, text, ...content) {
  $("main").append(element("h2", {}, title), element("p", { className: "soft" }, text), ...content);
}

// A figure whose picture is given or drawn; `take` gets its floats.
function slot(id, caption, take, ...buttons) {
  const canvas = element("canvas", { id, width, height, className: width <= 128 ? "small" : "" });
  const [input, choose] = picker("Picture", `${id}-file`);
  onPicture(input, canvas, async (bitmap) => {
    draw(bitmap, canvas, height, width);
    await take(toFloats(canvas, channels));
  });
  const random = element("button", { id: `${id}-draw`, onclick: () => busy("drawing", async () => {
    const images = await decode(drawn());
    show(canvas, images);
    await take(images.data);
  }) }, "Draw");
  return [canvas, element("figure", {}, canvas, element("figcaption", {}, caption),
    element("div", { className: "row" }, choose, random, ...buttons))];
}

// 1. Sliders.
let e = new Float32Array(dims);
const panel = element("div", { id: "sliders" }), explorer = element("div", { id: "explore" });
const sliders = settings.used.map((dimension) => {
  const slider = element("input", { type: "range", min: -3, max: 3, step: 0.05, value: 0, id: `e-${dimension}` });
  const value = element("span", {}, "0.0");
  slider.addEventListener("input", () => {
    e[dimension] = Number(slider.value);
    value.textContent = e[dimension].toFixed(1);
    busy("", explore);
  });
  panel.append(element("label", {}, `e${dimension}`, slider, value));
  return [dimension, slider, value];
});
const [explored, figure] = slot("explored", "give a picture, draw one, or move a slider",
  async (data) => { set(await encode(data)); await explore(); },
  element("button", { id: "zero", onclick: () => { set(new Float32Array(dims)); busy("", explore); } }, "Mean"));
explorer.append(figure, panel);
$("main").append(explorer);

function set(latents) {
  e = Float32Array.from(latents);
  for (const [dimension, slider, value] of sliders) {
    slider.value = e[dimension];
    value.textContent = e[dimension].toFixed(1);
  }
}

const explore = latest(async () => show(explored, await decode(e)));

// 2. From one picture to another.
const ends = [undefined, undefined];
const between = element("canvas", { id: "between", width, height, className: width <= 128 ? "small" : "" });
const fraction = element("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0.5, id: "fraction" });
fraction.ariaLabel = "from the first picture to the second";
const interpolate = latest(async () => {
  if (!ends[0] || !ends[1]) return;
  const t = Number(fraction.value);
  show(between, await decode(ends[0].map((start, i) => start + t * (ends[1][i] - start))));
});
fraction.addEventListener("input", () => busy("", interpolate));
const slots = ["first", "second"].map((id, i) => slot(id, `${id} picture`, async (data) => {
  ends[i] = await encode(data);
  await interpolate();
})[1]);
section("Between two pictures", "The line between their encodings, decoded.",
  element("div", { className: "pictures" }, slots[0],
    element("figure", {}, between, element("figcaption", {}, "between them"), fraction), slots[1]));

// 3. A hole: what the decoder makes of the encoding takes the place of the missing pixels, again and again
// (Rezende et al. 2014, with means in place of draws).
let whole, hole = new Uint8Array(height * width);
const [broken, brokenFigure] = slot("hole", "paint over what is missing", async (data) => {
  [whole, hole] = [Float32Array.from(data), new Uint8Array(height * width)];
}, element("button", { id: "complete", className: "first", onclick: () => busy("completing", complete) }, "Complete"));
broken.classList.add("paint");
const completed = element("canvas", { id: "completed", width, height, className: width <= 128 ? "small" : "" });
section("Complete a picture", "Give a picture or draw one, and paint a hole into it with a finger or the mouse.",
  element("div", { className: "pictures" }, brokenFigure,
    element("figure", {}, completed, element("figcaption", {}, "completed"))));

function paint(event) {
  if (!whole || (event.type === "pointermove" && !event.buttons)) return;
  const box = broken.getBoundingClientRect(), radius = Math.max(1, Math.max(width, height) / 14);
  const [x, y] = [(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height];
  for (let row = 0; row < height; row++) for (let column = 0; column < width; column++)
    if (Math.hypot(column + 0.5 - x, row + 0.5 - y) < radius) hole[row * width + column] = 1;
  show(broken, tensor(whole.map((value, i) => hole[Math.floor(i / channels)] ? 0.5 : value)));
}
for (const kind of ["pointerdown", "pointermove"]) broken.addEventListener(kind, paint);

async function complete() {
  if (!whole || !hole.includes(1)) throw new Error("give a picture, and paint a hole into it first");
  let x = whole.map((value, i) => hole[Math.floor(i / channels)] ? 0.5 : value);
  for (let round = 0; round < settings.rounds; round++) {
    const { data } = await decode(await encode(x));
    x = x.map((value, i) => hole[Math.floor(i / channels)] ? Math.min(1, Math.max(0, data[i])) : value);
  }
  show(completed, tensor(x));
}

busy("starting", explore);
