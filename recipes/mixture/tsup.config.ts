import { defineConfig } from "tsup";

// A program, not a library: one bundle of the workspace's sources, so that it starts without building the packages.
export default defineConfig({
  entry: ["src/main.ts"],
  format: ["esm"],
  // Its path aliases lead to the sources of the sdxs packages; all others stay imports.
  tsconfig: "../../tsconfig.json",
  skipNodeModulesBundle: true,
  splitting: true,
  sourcemap: true,
  clean: true,
  silent: true,
  target: "es2022",
});
