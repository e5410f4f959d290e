import { basename } from "node:path";
import { publishedPackages } from "./e2e/workspace.js";

/** The sources of a package's entries, by what its package.json exports. */
const entriesOf = (exports: Readonly<Record<string, unknown>>): string[] =>
  Object.keys(exports)
    .filter((subpath) => subpath !== "./package.json")
    .map((subpath) => `src/${subpath === "." ? "index" : subpath.slice(2)}.ts`);

const entriesOfPackage = (name: string): string[] =>
  entriesOf(publishedPackages.find(({ manifest }) => manifest.name === `@sdxs/${name}`)?.manifest.exports ?? {});

/** Imported by what the recipes share, recipes/*.ts. */
const shared = [
  "@fontsource/dejavu-sans",
  "cli-progress",
  "@types/cli-progress",
  "opentype.js",
  "@types/opentype.js",
  "webgpu",
];

/** What is not used: files, exports and dependencies. `npm run check:unused` finds nothing but what is explained here. */
export default {
  ignoreExportsUsedInFile: true,
  workspaces: {
    ".": {
      entry: [
        "scripts/*.mjs",
        "e2e/webgpu/*-{page,worker}.ts",
        "e2e/webgpu/page.ts",
        "bench/src/{train,peers,load,infer,blocks,serve,sdxs,demo}.ts",
        "{golden,compare}/src/main.ts",
      ],
      project: ["*.{js,ts}", "{scripts,e2e,bench,golden,compare}/**/*.{mjs,ts}"],
      // Run by their names: by scripts/build.mjs, by e2e/packages.test.ts, and by hand.
      ignoreDependencies: ["turbo", "@arethetypeswrong/cli", "dependency-cruiser"],
    },
    ...Object.fromEntries(
      publishedPackages.map(({ folder, manifest }) => [
        `packages/${basename(folder)}`,
        { entry: entriesOf(manifest.exports), project: "src/**/*.ts" },
      ]),
    ),
    "packages/tensor": {
      entry: [...entriesOfPackage("tensor"), "src/testing.ts"],
      project: "src/**/*.ts",
      // Only its types are imported.
      ignoreDependencies: ["@tensorflow/tfjs"],
    },
    "packages/cli": {
      entry: [...entriesOfPackage("cli"), "src/bin.ts"],
      project: "src/**/*.ts",
      // Imported where it is installed.
      ignoreDependencies: ["webgpu"],
    },
    "recipes/mixture": { entry: "src/main.ts", project: "src/**/*.ts" },
    "recipes/emoji": {
      entry: ["src/{main,quickstart}.ts", "pack/*.ts"],
      project: "src/**/*.ts",
      ignoreDependencies: shared,
    },
    "recipes/scenes": {
      entry: "src/main.ts",
      project: "src/**/*.ts",
      ignoreDependencies: [...shared, "@sdxs/diffusion"],
    },
    "apps/demo": { entry: "src/*.ts", project: "src/**/*.ts" },
    examples: { entry: "**/*.test.ts", project: "**/*.ts" },
  },
  // Test of telemetry: a C compiler, where there is one.
  ignoreBinaries: ["cc"],
};
