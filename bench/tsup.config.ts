import { defineConfig } from "tsup";

// Programs, not a library: bundles of the packages' sources, so that they start without building the packages.
// Paths count from the repository's root, where the npm scripts run.
export default defineConfig({
  entry: ["train", "peers", "load", "infer", "blocks"].map((name) => `bench/src/${name}.ts`),
  outDir: "bench/dist",
  format: ["esm"],
  // Its path aliases lead to the sources of the sdxs packages; all others stay imports.
  tsconfig: "tsconfig.json",
  skipNodeModulesBundle: true,
  splitting: true,
  sourcemap: true,
  clean: true,
  target: "es2022",
});
