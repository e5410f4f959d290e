import { defineConfig } from "tsup";
import { publishedPackage } from "../../tsup.base.js";

export default defineConfig(publishedPackage(["src/index.ts", "src/node.ts", "src/backends.ts", "src/onnx.ts"]));
