// Which way imports may point; `npm run check:imports` holds them to it.

/** Rooms of packages/tensor/src, lowest first: a room imports from those above it in this list, and from itself. */
const tensorRooms = [
  ["core"],
  ["nn", "weights"],
  ["graph", "optim"],
  ["forward", "onnx", "webgpu", "tfjs", "reference"],
  ["conformance", "node"],
];

const room = (name) => `^packages/tensor/src/${name}/`;

/** What may not be imported from a room: rooms beside it and later ones. */
const upward = tensorRooms.flatMap((level, i) =>
  level.map((name) => ({
    name: `tensor-${name}-imports-lower-rooms`,
    severity: "error",
    from: { path: room(name), pathNot: "[.]test(-support)?[.]ts$" },
    to: {
      path: [...level.filter((other) => other !== name), ...tensorRooms.slice(i + 1).flat()]
        .map(room)
        .concat("^packages/tensor/src/[^/]+[.]ts$"),
    },
  })),
);

export default {
  forbidden: [{ name: "no-circle", severity: "error", from: {}, to: { circular: true } }, ...upward],
  options: {
    tsConfig: { fileName: "tsconfig.json" },
    tsPreCompilationDeps: true,
    doNotFollow: { path: "node_modules" },
    exclude: { path: "(^|/)(dist|fixtures)/" },
  },
};
