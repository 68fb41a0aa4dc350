// Runs the programs beside the page, which stays alive meanwhile: {runtime, wasm} first, then {id, program, inputs}.
let ort, sessions = {};

async function run({ program, model, inputs }) {
  sessions[program] ??= await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const feeds = Object.fromEntries(Object.entries(inputs).map(([name, { data, shape }]) =>
    [name, new ort.Tensor("float32", data, shape)]));
  const outputs = await sessions[program].run(feeds);
  return Object.fromEntries(Object.entries(outputs).map(([name, { data, dims }]) => [name, { data, shape: dims }]));
}

let last = Promise.resolve();

self.onmessage = ({ data }) => {
  last = last.then(async () => {
    try {
      if (data.runtime) {
        ort = await import(URL.createObjectURL(new Blob([data.runtime], { type: "text/javascript" })));
        Object.assign(ort.env.wasm, { wasmBinary: data.wasm, numThreads: 1 });
        return;
      }
      self.postMessage({ id: data.id, outputs: await run(data) });
    } catch (error) {
      self.postMessage({ id: data.id, error: String(error.message ?? error) });
    }
  });
};
