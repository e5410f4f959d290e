import { defineConfig } from "tsup";
import { program } from "../tsup.base.js";

// Paths count from the repository's root, where the npm scripts run.
export default defineConfig(program(["compare/src/main.ts"], "compare/dist"));
