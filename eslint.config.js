import js from "@eslint/js";
import { defineConfig, globalIgnores } from "eslint/config";
import typescript from "typescript-eslint";

export default defineConfig([
  globalIgnores(["**/dist/", "**/fixtures/", "tmp/"]),
  js.configs.recommended,
  {
    files: ["**/*.{js,mjs}"],
    languageOptions: { globals: { Buffer: "readonly", console: "readonly", process: "readonly", URL: "readonly" } },
  },
  {
    files: ["**/*.ts"],
    extends: [typescript.configs.strictTypeChecked],
    languageOptions: { parserOptions: { project: "./tsconfig.json", tsconfigRootDir: import.meta.dirname } },
    rules: {
      // `typeof import("sharp")` names the type of an optional package without importing it.
      "@typescript-eslint/consistent-type-imports": ["error", { disallowTypeAnnotations: false }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      // Loops over typed arrays index within bounds that the compiler cannot see.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      // A constructor without a body may still narrow the types that its parent's takes.
      "@typescript-eslint/no-useless-constructor": "off",
      // An interface may promise what one of its implementations has at once.
      "@typescript-eslint/require-await": "off",
      // Numbers in messages are what messages are for.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      // `!= null` asks for null and undefined at once.
      eqeqeq: ["error", "always", { null: "ignore" }],
    },
  },
  {
    files: ["packages/*/src/**/*.ts"],
    rules: {
      // Libraries hand out values; programs print them.
      "no-console": "error",
      // Randomness is an argument: equal seeds give equal results on every backend.
      "no-restricted-properties": ["error", { object: "Math", property: "random", message: "Take a seed instead." }],
    },
  },
  {
    // Vitest's asymmetric matchers, as `expect.any(Number)`, are of type any.
    files: ["**/*.test.ts"],
    rules: { "@typescript-eslint/no-unsafe-assignment": "off" },
  },
  {
    // A project of its own, whose dependencies are not installed with the workspace.
    files: ["recipes/emoji/pack/**/*.ts"],
    extends: [typescript.configs.disableTypeChecked],
  },
]);
