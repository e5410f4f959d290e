import type { Options } from "tsup";

/**
 * How every published package is built: ESM, CommonJS and declarations for both.
 * Dependencies stay imports; sdxs packages are resolved to each other's built declarations.
 */
export function publishedPackage(entry: string[]): Options {
  return {
    entry,
    format: ["esm", "cjs"],
    // Without the path aliases of tsconfig.json, which would inline the sources of other packages.
    tsconfig: "../../tsconfig.base.json",
    // TypeScript 6 deprecates an option that tsup's declaration build still sets.
    dts: { compilerOptions: { ignoreDeprecations: "6.0" } },
    // Subpaths share code instead of each holding a copy, CommonJS included.
    splitting: true,
    sourcemap: true,
    clean: true,
    target: "es2022",
  };
}
