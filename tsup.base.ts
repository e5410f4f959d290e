import { fileURLToPath } from "node:url";
import type { Options } from "tsup";

/**
 * How every published package is built: ESM, CommonJS and declarations for both.
 * Dependencies stay imports; sdxs packages are resolved to each other's built declarations.
 */
export function publishedPackage(entry: string[]): Options {
  return {
    entry,
    format: ["esm", "cjs"],
    tsconfig: "../../tsconfig.build.json",
    // TypeScript 6 deprecates an option that tsup's declaration build still sets.
    dts: { compilerOptions: { ignoreDeprecations: "6.0" } },
    // Subpaths share code instead of each holding a copy, CommonJS included.
    splitting: true,
    // What is built reads as it was written, and the sources are in the package: scripts/declaration-maps.mjs leads there.
    sourcemap: false,
    clean: true,
    silent: true,
    target: "es2022",
  };
}

/** How programs are built: bundles of the packages' sources, so that they start without building the packages. */
export function program(entry: string[], outDir = "dist"): Options {
  return {
    entry,
    outDir,
    format: ["esm"],
    // Its path aliases lead to the sources of the sdxs packages; all others stay imports.
    tsconfig: fileURLToPath(new URL("tsconfig.json", import.meta.url)),
    skipNodeModulesBundle: true,
    splitting: true,
    sourcemap: true,
    clean: true,
    silent: true,
    target: "es2022",
  };
}
