import { describe, expect, test } from "vitest";
import { conformanceCases, fromBackend, runCase } from "../conformance.js";
import { HostTensor, forwardBackend, type ForwardDevice, type Program } from "../index.js";
import { fromHost, referenceOps, toHost, type ReferenceTensor } from "../reference.js";

/** The reference, which has no gradients of its own, and refuses tensors that are gone. */
function device(): ForwardDevice<ReferenceTensor> {
  const gone = new WeakSet();
  const alive = (tensor: ReferenceTensor): void => {
    if (gone.has(tensor)) throw new Error("A tensor is used after it was disposed of.");
  };
  const guarded = new Proxy(referenceOps, {
    get(target, name: keyof typeof referenceOps) {
      const operation = Reflect.get(target, name) as (...operands: unknown[]) => unknown;
      return (...operands: unknown[]) => {
        for (const operand of operands.flat()) if (isTensor(operand)) alive(operand);
        return operation(...operands);
      };
    },
  });
  return {
    name: "reference",
    ops: guarded,
    isTensor,
    upload: fromHost,
    async download(tensor) {
      alive(tensor);
      return toHost(tensor);
    },
    dispose(tensor) {
      alive(tensor);
      gone.add(tensor);
    },
  };
}

const isTensor = (value: unknown): value is ReferenceTensor =>
  (value as { readonly data?: unknown } | undefined)?.data instanceof Float64Array;

/** Plain loops take a minute over convolutions and products of so many elements. */
const large = /blocks of channels|the same with stride 2|of \[3, (37|53)/;
/** The reference goes on in double precision, a restored state in single. */
const doublePrecision = "training: a restored state takes the same next step, bit for bit";

describe("forwardBackend of the reference", () => {
  const adapter = fromBackend(forwardBackend(device()));
  const cases = conformanceCases().filter(({ name }) => !large.test(name) && name !== doublePrecision);
  test.each(cases.map((one) => [one.name, one] as const))("%s", async (_name, one) => {
    expect(await runCase(adapter, one)).toMatchObject({ ok: true, message: "" });
  });
});

test("a run that throws leaves no tensors behind", async () => {
  const failing: ForwardDevice<ReferenceTensor> = {
    ...device(),
    ops: {
      ...referenceOps,
      exp() {
        throw new Error("out of memory");
      },
    },
  };
  const backend = forwardBackend(failing);
  const program: Program<"x"> = (ops, _params, { x }) => ({ y: ops.add(ops.exp(ops.sin(x)), ops.cos(x)) });
  const compiled = await backend.compile(program, { inputs: { x: { shape: [2] } } });
  await expect(compiled.run({}, { x: HostTensor.filled([2], 1) })).rejects.toThrow("out of memory");
  expect(backend.memory()).toEqual({ tensors: 0, bytes: 0 });
});
