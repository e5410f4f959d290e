import { readFile, readdir } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const recipe = fileURLToPath(new URL("../../recipes/emoji/", import.meta.url));

export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  base: "./", // works under any address
  appType: "mpa", // status 404 for what is absent, where others answer with the page
  resolve: { tsconfigPaths: true }, // the sources of the sdxs packages, so that nothing else is built before
  worker: { format: "es" },
  build: { target: "es2022", chunkSizeWarningLimit: 1000 },
  plugins: [models("student", "teacher", "controlnet-edges", "loras")],
});

/** Puts folders of the recipe beside the page, as models/NAME. */
function models(...names: readonly string[]): Plugin {
  return {
    name: "models",
    async generateBundle() {
      for (const name of names) {
        const folder = join(recipe, name);
        for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
          if (!entry.isFile()) continue;
          const path = join(entry.parentPath, entry.name);
          const fileName = `models/${name}/${relative(folder, path).split(sep).join("/")}`;
          this.emitFile({ type: "asset", fileName, source: await readFile(path) });
        }
      }
    },
  };
}
