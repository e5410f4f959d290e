import { defineConfig } from "tsup";
import { publishedPackage } from "../../tsup.base.js";

export default defineConfig(
  publishedPackage([
    "src/index.ts",
    "src/tfjs.ts",
    "src/onnx.ts",
    "src/webgpu.ts",
    "src/reference.ts",
    "src/conformance.ts",
    "src/node.ts",
  ]),
);
