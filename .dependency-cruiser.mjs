// Which way imports may point, types included; `npm run check:imports` holds them to it.

/** Rooms of a package's src, lowest first: a room imports from levels before its own, and from itself. */
export const rooms = {
  tensor: [
    ["core"],
    ["nn", "weights"],
    ["graph", "optim"],
    ["forward", "onnx", "webgpu", "tfjs", "reference"],
    ["conformance", "node"],
  ],
  runtime: [["clip", "images"], ["checkpoints"], ["pipeline"]],
  "one-step-trainer": [
    ["shared"],
    ["feature-matching-warmup", "consistency-distillation", "segmented-score-distillation", "texture-finetune"],
    ["distribution-matching-distillation", "controlnet", "lora"],
  ],
};

/** Packages, lowest first, likewise. */
export const packages = [
  ["tensor"],
  ["diffusion", "losses", "training"],
  ["tiny-unet", "tiny-vae", "lora"],
  ["controlnet"],
  ["one-step-trainer", "runtime"],
  ["cli"],
];

/** For each name of the levels, what it may not import: names beside it and of later levels. */
const upward = (levels, path, extra = []) =>
  levels.flatMap((level, i) =>
    level.map((name) => ({
      name: `${path(name)} imports what is below it`,
      severity: "error",
      from: { path: `^${path(name)}/`, pathNot: "[.]test(-support)?[.]ts$" },
      to: {
        path: [...level.filter((other) => other !== name), ...levels.slice(i + 1).flat()]
          .map((other) => `^${path(other)}/`)
          .concat(extra),
      },
    })),
  );

export default {
  forbidden: [
    { name: "no circle", severity: "error", from: {}, to: { circular: true } },
    ...upward(packages, (name) => `packages/${name}/src`, ["^(apps|bench|recipes|e2e|golden|examples|compare)/"]),
    ...Object.entries(rooms).flatMap(([name, levels]) =>
      // The files beside the rooms are what the package exports: they import from rooms, never the other way.
      upward(levels, (room) => `packages/${name}/src/${room}`, [`^packages/${name}/src/[^/]+[.]ts$`]),
    ),
  ],
  options: {
    tsConfig: { fileName: "tsconfig.json" },
    tsPreCompilationDeps: true,
    doNotFollow: { path: "node_modules" },
    exclude: { path: "(^|/)(dist|fixtures)/" },
  },
};
