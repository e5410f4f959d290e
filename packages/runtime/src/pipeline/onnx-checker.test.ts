import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, test } from "vitest";
import { mapTensors, random, withGradients, type Program } from "@sdxs/tensor";
import { conformanceCases, runCase, type ConformanceAdapter } from "@sdxs/tensor/conformance";
import { exportOnnx, type ExportOnnxOptions, type ExportOnnxSpec, type SerializedModel } from "@sdxs/tensor/onnx";
import { fromHost, referenceOps, toHost } from "@sdxs/tensor/reference";
import { exportStage, exportStages, type ExportStageOptions } from "./export-stage.js";
import { tinyPipeline } from "./tiny-pipeline.test-support.js";

/** ONNX's own checker of Debian's package python3-onnx (1.12, which knows opset 17): what each file is refused for. */
const checker = `
import json, os, sys, onnx

def problem(path):
    try:
        onnx.checker.check_model(path, full_check=True)
        model = onnx.load(path)
        opsets = [(entry.domain, entry.version) for entry in model.opset_import]
        if opsets != [("", 17)]:
            return f"opsets {opsets}"
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        shapes = [[value.type for value in graph.output] for graph in (model.graph, inferred.graph)]
        return None if shapes[0] == shapes[1] else "other shapes of outputs"
    except Exception as error:
        return str(error)

folder = sys.argv[1]
names = sorted(name for name in os.listdir(folder) if name.endswith(".onnx"))
print(json.dumps({name[:-5]: problem(os.path.join(folder, name)) for name in names}))
`;

/** A Python that has the package, or undefined. */
const python = ["python3", "/usr/bin/python3"].find(
  (command) => spawnSync(command, ["-c", "import onnx.checker"], { cwd: tmpdir() }).status === 0,
);

const folder = mkdtempSync(join(tmpdir(), "sdxs-onnx-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** By the names of their files; `problems` are those of the models that the checker refuses. */
function problems(models: ReadonlyMap<string, SerializedModel>): Record<string, string> {
  const place = mkdtempSync(join(folder, "models-"));
  const names = new Map<string, string>();
  for (const [name, { model, external }] of models) {
    const file = String(names.size);
    names.set(file, name);
    writeFileSync(join(place, `${file}.onnx`), model);
    for (const [data, pieces] of Object.entries(external)) writeFileSync(join(place, data), Buffer.concat(pieces));
  }
  const { stdout, stderr } = spawnSync(python!, ["-c", checker, place], { encoding: "utf8", cwd: place });
  if (stdout === "") throw new Error(stderr);
  const found = Object.entries(JSON.parse(stdout) as Record<string, string | null>);
  expect(found).toHaveLength(models.size);
  const refused = found.filter((entry): entry is [string, string] => entry[1] !== null);
  return Object.fromEntries(refused.map(([file, problem]) => [names.get(file) ?? file, problem]));
}

if (python === undefined) {
  const reason = "no Python with onnx: install Debian's python3-onnx";
  test.skip(`ONNX's checker accepts exported files (${reason})`);
} else {
  describe("ONNX's checker accepts", () => {
    it("every operation and every gradient of the conformance suite", async () => {
      const models = new Map<string, SerializedModel>();
      let current = "";
      const adapter: ConformanceAdapter = {
        name: "export",
        async evaluate(program, params, inputs) {
          models.set(`${current}, ${models.size}`, exportOnnx(program, { frozen: params, inputs }));
          // It does not differentiate: of cases that need gradients only the file is looked at.
          return mapTensors(program(referenceOps, mapTensors(params, fromHost), mapTensors(inputs, fromHost)), toHost);
        },
      };
      for (const one of conformanceCases()) {
        current = one.name;
        await runCase(adapter, one);
      }
      expect(models.size).toBeGreaterThan(600);
      expect(problems(models)).toEqual({});
    });

    const any = { batch: "any", width: "any", height: "any" } as const;
    it.each<ExportStageOptions>([
      {},
      { batch: 3, width: 8, height: 16 },
      any,
      { weights: "float16" },
      { precision: "float16" },
      { ...any, precision: "float16" },
      { externalName: "weights.data" },
    ])("each stage of a pipeline, %j", (options) => {
      const models = exportStages.map((stage) => {
        const external = options.externalName && { externalName: `${stage}.data` };
        return [stage, exportStage(tinyPipeline, stage, { ...options, ...external })] as const;
      });
      expect(problems(new Map(models))).toEqual({});
    });

    it("a training step, 8-bit convolutions and products, and sizes by multiples", () => {
      const wide: Program<"x", "loss" | "y"> = (ops, p, { x }) => {
        const image = ops.relu(ops.conv2d(x, p.w!, p.bias, { padding: 1 }));
        const rows = ops.reshape(ops.transpose(image, [0, 2, 3, 1]), [-1, 32]);
        const y = ops.add(ops.matmul(rows, p.matrix!), p.bias!);
        return { loss: ops.mean(ops.square(y)), y };
      };
      const frozen = {
        w: random(1).normal([32, 32, 3, 3]),
        bias: random(2).normal([32]),
        matrix: random(3).normal([32, 32]),
      };
      const half: Program<"x", "y"> = (ops, _p, { x }) => ({
        y: ops.resizeNearest(ops.avgPool2d(x, 2), ops.shape(x).slice(2) as [number, number]),
      });
      const inputs = { x: { shape: [2, 32, 4, 6] } };
      const range = [-4, 4] as const;
      const int8 = { w: { input: range, output: range }, matrix: { input: range, output: range } };
      const open = { x: { shape: ["n", 32, "height", 6] } };
      const write = (program: Program, spec: ExportOnnxSpec, options?: ExportOnnxOptions): SerializedModel =>
        exportOnnx(program, spec, options);
      const models = {
        training: write(withGradients(wide, Object.keys(frozen)), { params: frozen, inputs }),
        "int8, all outputs": write(wide, { frozen, inputs, int8 }),
        multiples: write(half, { inputs: open }, { multiples: { height: 2 } }),
      };
      expect(problems(new Map(Object.entries(models)))).toEqual({});
    });
  });
}
