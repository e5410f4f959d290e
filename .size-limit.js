import { builtinModules } from "node:module";

// Gzipped sizes of each entry with all that it imports from its own package; other packages count for themselves.
// Each ceiling is about half as much again as the size when it was set, so that growth is a decision.
const ceilings = {
  // Checkpoints from anywhere, calibration and a kernel for float16 came since.
  tensor: "26 kB",
  "tensor/tfjs": "20 kB",
  // Winograd's convolutions and 8 bits came since.
  "tensor/onnx": "28 kB",
  // The autotuner came since.
  "tensor/webgpu": "40 kB",
  "tensor/node": "10 kB",
  // All samplers of Stable Diffusion's folders, and the fields of their configurations, came since.
  diffusion: "16 kB",
  training: "8 kB",
  "training/node": "5 kB",
  // The promise to those who install the losses alone.
  losses: "8 kB",
  "losses/extractors": "5 kB",
  "losses/discriminators": "2 kB",
  "tiny-vae": "7 kB",
  "tiny-unet": "9 kB",
  lora: "7 kB",
  controlnet: "5 kB",
  "one-step-trainer": "8 kB",
  // Fetches whole pipelines in browsers, whatever servers and networks do, with tokenizers as transformers has them, and draws there with LoRAs, textual
  // inversions, from images of any size, in streams and in workers; and CLIP.
  runtime: "38 kB",
  // Caches, the hub's among them, and pictures' files.
  "runtime/node": "20 kB",
  "runtime/backends": "3 kB",
  // It shares programs and requests with the pipeline.
  "runtime/onnx": "8 kB",
  cli: "12 kB",
};

export default Object.entries(ceilings).map(([entry, limit]) => {
  const [name, subpath = "index"] = entry.split("/");
  return {
    name: `@sdxs/${entry}`,
    path: `packages/${name}/dist/${subpath}.js`,
    limit,
    gzip: true,
    // tsup writes Node's own modules without their prefix.
    ignore: [
      "@sdxs/*",
      "@tensorflow/*",
      "onnxruntime-*",
      "@huggingface/*",
      "fast-png",
      "sharp",
      "node:*",
      ...builtinModules,
    ],
  };
});
