import { defineConfig } from "tsup";

// A program, not a library: a bundle of the packages' sources, so that it starts without building the packages.
// Paths count from the repository's root, where the npm scripts run.
export default defineConfig({
  entry: ["golden/src/main.ts"],
  outDir: "golden/dist",
  format: ["esm"],
  // Its path aliases lead to the sources of the sdxs packages; all others stay imports.
  tsconfig: "tsconfig.json",
  skipNodeModulesBundle: true,
  sourcemap: true,
  clean: true,
  target: "es2022",
});
