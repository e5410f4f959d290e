// Gzipped sizes of each entry with all that it imports from its own package; other packages count for themselves.
const ceilings = {
  // Enough for the interface, parameter trees, random numbers and safetensors.
  tensor: "20 kB",
  "tensor/tfjs": "20 kB",
  "tensor/onnx": "40 kB",
  diffusion: "10 kB",
  training: "10 kB",
  losses: "8 kB",
  "tiny-vae": "15 kB",
  "tiny-unet": "15 kB",
  "one-step-trainer": "10 kB",
  runtime: "20 kB",
};

export default Object.entries(ceilings).map(([entry, limit]) => {
  const [name, subpath = "index"] = entry.split("/");
  return {
    name: `@sdxs/${entry}`,
    path: `packages/${name}/dist/${subpath}.js`,
    limit,
    gzip: true,
    ignore: ["@sdxs/*", "@tensorflow/*", "onnxruntime-*", "@huggingface/*", "node:*"],
  };
});
