import { defineConfig } from "tsup";
import { program } from "../tsup.base.js";

// Paths count from the repository's root, where the npm scripts run.
const entries = ["train", "peers", "load", "infer", "blocks", "serve", "sdxs", "demo"].map(
  (name) => `bench/src/${name}.ts`,
);
export default defineConfig(program(entries, "bench/dist"));
