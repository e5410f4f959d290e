import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const packages = fileURLToPath(new URL("./packages/", import.meta.url));

// Sources of other packages, so that tests need no build.
const alias = [
  { find: /^@sdxs\/([a-z-]+)\/([a-z-]+)$/, replacement: `${packages}$1/src/$2.ts` },
  { find: /^@sdxs\/([a-z-]+)$/, replacement: `${packages}$1/src/index.ts` },
];

declare module "vitest" {
  interface ProvidedContext {
    /** Whether to test slow devices on everything. */
    readonly complete: boolean;
  }
}

export default defineConfig(({ mode }) => ({
  test: {
    pool: "forks",
    maxWorkers: 2,
    // Also where a test starts a session by itself.
    env: { ORT_DISABLE_TELEMETRY: "1" },
    projects: [
      {
        extends: true,
        resolve: { alias },
        test: {
          name: "source",
          include: [
            "packages/*/src/**/*.test.ts",
            "recipes/*/src/**/*.test.ts",
            "apps/*/src/**/*.test.ts",
            "examples/**/*.test.ts",
            "bench/**/*.test.ts",
            "golden/**/*.test.ts",
            "compare/**/*.test.ts",
            "scripts/**/*.test.ts",
            "docs/**/*.test.ts",
          ],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        extends: true,
        test: {
          name: "packages",
          include: ["e2e/*.test.ts"],
          // Packs every package; they must have been built.
          globalSetup: "e2e/pack.ts",
          // They start compilers and npm, which a busy machine slows down tenfold.
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
      {
        extends: true,
        resolve: { alias },
        test: {
          name: "webgpu",
          include: ["e2e/webgpu/*.test.ts"],
          provide: { complete: mode === "complete" },
          // Where there is no GPU a processor does its work, and compiles each shader first.
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
}));
