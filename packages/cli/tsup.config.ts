import { defineConfig } from "tsup";
import { publishedPackage } from "../../tsup.base.js";

export default defineConfig(publishedPackage(["src/index.ts", "src/bin.ts"]));
