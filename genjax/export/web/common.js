// What both pages share: the runtime, pictures to arrays and back, ways to give a picture.
const $ = (id) => document.getElementById(id);
const settings = JSON.parse($("settings").textContent);

function say(text) { $("state").textContent = text; }

async function unpacked(id) { // base64 of gzip
  const packed = Uint8Array.from(atob($(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function floats(planes) { // undoes page.py's _planes
  const whole = Math.floor(planes.length / 4), program = planes.slice();
  for (let i = 0; i < whole; i++) for (let k = 0; k < 4; k++) program[4 * i + k] = planes[k * whole + i];
  return program;
}

const worker = new Worker(URL.createObjectURL(new Blob([$("worker").textContent], { type: "text/javascript" })));
const waiting = new Map(), sent = new Set();
const ready = (async () => {
  const [runtime, wasm] = [await unpacked("runtime"), await unpacked("wasm")];
  worker.postMessage({ runtime, wasm });
})();
let runs = 0;

worker.onmessage = ({ data: { id, outputs, error } }) => {
  if (id === undefined) return say(error);
  const [resolve, reject] = waiting.get(id);
  waiting.delete(id);
  error ? reject(new Error(error)) : resolve(outputs);
};

async function run(program, inputs) { // {name: {data, shape}} to the same of the outputs
  await ready;
  const model = sent.has(program) ? undefined : floats(await unpacked(`program-${program}`));
  sent.add(program);
  const id = runs++;
  return new Promise((resolve, reject) => {
    waiting.set(id, [resolve, reject]);
    worker.postMessage({ id, program, model, inputs });
  });
}

let tasks = 0;

async function busy(text, task) { // shows what is under way, and what went wrong
  $("main").setAttribute("aria-busy", ++tasks > 0);
  say(text);
  try { await task(); say(""); } catch (error) { say(error.message); }
  $("main").setAttribute("aria-busy", --tasks > 0);
}

function latest(task) { // one at a time for a slider that moves, and the last one always
  let pending = false, again = false;
  return async () => {
    again = true;
    if (pending) return;
    pending = true;
    try { while (again) { again = false; await task(); } } finally { pending = false; }
  };
}

// Floats in [0, 1], [h, w, channels], of the pixels of a canvas.
function toFloats(canvas, channels) {
  const { width, height } = canvas, pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const data = new Float32Array(width * height * channels);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = pixels.subarray(4 * i, 4 * i + 3);
    if (channels === 3) data.set([r / 255, g / 255, b / 255], 3 * i);
    else data[i] = r === g && g === b ? r / 255 : (0.299 * r + 0.587 * g + 0.114 * b) / 255;
  }
  return data;
}

// Shows the first height x width pixels of floats [rows, columns, channels] on a canvas.
function show(canvas, { data, shape }, height, width) {
  const [rows, columns, channels] = shape.slice(-3);
  Object.assign(canvas, { height: height ?? rows, width: width ?? columns });
  const pixels = new ImageData(canvas.width, canvas.height);
  for (let y = 0; y < canvas.height; y++) for (let x = 0; x < canvas.width; x++) {
    for (let c = 0; c < 3; c++)
      pixels.data[4 * (y * canvas.width + x) + c] = Math.round(255 * data[(y * columns + x) * channels + c % channels]);
    pixels.data[4 * (y * canvas.width + x) + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  canvas.classList.toggle("small", canvas.width <= 128);
}

// Draws a picture to a canvas of a size, its middle if the shape is another.
function draw(bitmap, canvas, height, width) {
  Object.assign(canvas, { height, width });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  Object.assign(context, { fillStyle: settings.ground, imageSmoothingQuality: "high" });
  context.fillRect(0, 0, width, height);
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const [w, h] = [width / scale, height / scale];
  context.drawImage(bitmap, (bitmap.width - w) / 2, (bitmap.height - h) / 2, w, h, 0, 0, width, height);
  canvas.classList.toggle("small", width <= 128);
}

// Calls `take` with a picture that is chosen in `input` or dropped on `target`.
function onPicture(input, target, take) {
  const read = (file) => file && busy("reading", async () => {
    let bitmap;
    try { bitmap = await createImageBitmap(file); } catch { throw new Error(`${file.name} is no picture`); }
    await take(bitmap);
  });
  input.addEventListener("change", () => { read(input.files[0]); input.value = ""; });
  target.addEventListener("dragover", (event) => { event.preventDefault(); target.classList.add("over"); });
  target.addEventListener("dragleave", () => target.classList.remove("over"));
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    target.classList.remove("over");
    read(event.dataTransfer.files[0]);
  });
}

function element(name, attributes = {}, ...content) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...content);
  return made;
}

function picker(text, id) { // a button that chooses a picture
  const input = element("input", { type: "file", accept: "image/*", id });
  return [input, element("label", { className: "button" }, text, input)];
}
