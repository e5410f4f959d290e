import { describe, expect, it } from "vitest";
import { adamW, type AdamWState } from "./adamw.js";
import type { AdamWOptions } from "../core/trainable.js";
import { HostTensor } from "../core/host-tensor.js";
import type { Operand, Ops, TensorMap } from "../core/ops.js";

const single = (x: Operand<HostTensor>): HostTensor => (typeof x === "number" ? HostTensor.scalar(x) : x);

/** float32 arithmetic of tensors of one shape, or with scalars: all that an optimiser needs. */
function elementwise(f: (a: number, b: number) => number) {
  return (left: Operand<HostTensor>, right: Operand<HostTensor>): HostTensor => {
    const [a, b] = [single(left), single(right)];
    const { shape } = a.data.length >= b.data.length ? a : b;
    const at = (x: HostTensor, i: number): number => x.data[x.data.length === 1 ? 0 : i]!;
    const size = Math.max(a.data.length, b.data.length);
    return HostTensor.from(
      shape,
      Array.from({ length: size }, (_, i) => f(at(a, i), at(b, i))),
    );
  };
}

const square = elementwise((x) => x * x);
const root = elementwise((x) => Math.sqrt(x));
const ops = {
  shape: (x) => x.shape,
  constant: (data, shape) => new HostTensor(shape, data),
  scalar: (value) => HostTensor.scalar(value),
  add: elementwise((a, b) => a + b),
  sub: elementwise((a, b) => a - b),
  mul: elementwise((a, b) => a * b),
  div: elementwise((a, b) => a / b),
  minimum: elementwise(Math.min),
  square: (x) => square(x, 0),
  sqrt: (x) => root(x, 0),
  sum: (x) => HostTensor.scalar(Array.from(x.data).reduce((total, value) => total + value, 0)),
} satisfies Partial<Ops<HostTensor>> as Ops<HostTensor>;

const initial = { a: HostTensor.from([2, 2], [0.5, -1.25, 2, 0.75]), b: HostTensor.from([3], [-0.3, 0.9, 1.5]) };

const gradients = [
  { a: [0.5, -2, 0.25, 3], b: [1, -0.5, 0.125] },
  { a: [-1.5, 0.75, 0, 2], b: [0.25, 4, -0.375] },
  { a: [0.125, 0.5, -0.25, -1], b: [0.0625, 0.5, 0.75] },
  { a: [2, 1, 0.5, 0.25], b: [-3, 0.125, 0] },
].map(({ a, b }) => ({ a: HostTensor.from([2, 2], a), b: HostTensor.from([3], b) }));

interface Run {
  readonly params: TensorMap<HostTensor>;
  readonly state: AdamWState<HostTensor>;
  readonly norms: number[];
}

function train(options: AdamWOptions, learningRate: number, asTensors = false): Run {
  const optimizer = adamW(options);
  let params: TensorMap<HostTensor> = initial;
  let state = optimizer.init(ops, params);
  const norms: number[] = [];
  gradients.forEach((gradient, i) => {
    const { first, secondRoot, averaging } = optimizer.biasCorrections(i + 1);
    const scalar = (value: number) => HostTensor.scalar(value);
    const result = optimizer.update(ops, {
      params,
      gradients: gradient,
      state,
      learningRate: asTensors ? HostTensor.scalar(learningRate) : learningRate,
      step: asTensors ? { first: scalar(first), secondRoot: scalar(secondRoot), averaging: scalar(averaging) } : i + 1,
    });
    ({ params, state } = result);
    norms.push(result.gradientNorm.item());
  });
  return { params, state, norms };
}

/** Agreement to a few units in the last place of float32 (2^-23 = 1.2e-7). */
function expectClose(tensor: HostTensor | undefined, expected: number[]): void {
  expect(tensor?.data.length).toBe(expected.length);
  expected.forEach((value, i) => {
    expect(Math.abs(tensor!.data[i]! - value)).toBeLessThanOrEqual(5e-7 * Math.abs(value));
  });
}

// PyTorch 1.13 on the CPU: torch.optim.AdamW with lr 0.01 and weight_decay 0.1 after clip_grad_norm_(params, 1.0),
// four steps with the gradients above; average = 0.9 * average + 0.1 * parameter after each.
const norms = [3.8181309700012207, 4.797460079193115, 1.4644218683242798, 3.7852509021759033];
const clipped = {
  a: [0.48983943462371826, -1.2339688539505005, 1.978788137435913, 0.7238993644714355],
  b: [-0.3202912509441376, 0.8872879147529602, 1.4778289794921875],
  aFirst: [0.044739507138729095, 0.03162388876080513, 0.0026180222630500793, 0.0361940972507],
  aSecond: [0.000401111610699445, 0.0004842039488721639, 5.083730138721876e-5, 0.0012591578997671604],
  bFirst: [-0.05209977924823761, 0.09202028810977936, 0.042148407548666],
  bSecond: [0.0007010551053099334, 0.000828437099698931, 0.0002691988192964345],
  aAverage: [0.4971742033958435, -1.2446479797363281, 1.993658185005188, 0.7427985668182373],
  bAverage: [-0.3063276708126068, 0.8990094065666199, 1.4948017597198486],
};
// The same with lr 0.001, weight_decay 0, no clipping and decay 0.5 of the average.
const plain = {
  a: [0.49953722953796387, -1.248649001121521, 1.9979816675186157, 0.7469879388809204],
  b: [-0.30214154720306396, 0.8992693424224854, 1.49878990650177],
  aFirst: [0.12620002031326294, 0.05995001271367073, 0.04572499915957451, 0.3157000243663788],
  bSecond: [0.01006328035145998, 0.016482645645737648, 0.0007178595988079906],
  aAverage: [0.49959903955459595, -1.2487173080444336, 1.9983234405517578, 0.7475546598434448],
};

describe("adamW", () => {
  it.each([
    ["numbers", false],
    ["scalar tensors", true],
  ])("takes PyTorch's steps with decay, clipping and averaging, the rate given as %s", (_, asTensors) => {
    const run = train({ weightDecay: 0.1, clipNorm: 1, emaDecay: 0.9 }, 0.01, asTensors);
    expectClose(HostTensor.from([4], run.norms), norms);
    expectClose(run.params["a"], clipped.a);
    expectClose(run.params["b"], clipped.b);
    expectClose(run.state.m["a"], clipped.aFirst);
    expectClose(run.state.v["a"], clipped.aSecond);
    expectClose(run.state.m["b"], clipped.bFirst);
    expectClose(run.state.v["b"], clipped.bSecond);
    expectClose(run.state.averaged?.["a"], clipped.aAverage);
    expectClose(run.state.averaged?.["b"], clipped.bAverage);
  });

  it("takes PyTorch's steps without decay and clipping", () => {
    const run = train({ weightDecay: 0, emaDecay: 0.5 }, 0.001);
    expectClose(HostTensor.from([4], run.norms), norms);
    expectClose(run.params["a"], plain.a);
    expectClose(run.params["b"], plain.b);
    expectClose(run.state.m["a"], plain.aFirst);
    expectClose(run.state.v["b"], plain.bSecond);
    expectClose(run.state.averaged?.["a"], plain.aAverage);
  });

  it("warms the average up as diffusers does", () => {
    const actual = (emaDecay: number): number[] =>
      [1, 2, 3, 4, 1000].map((step) => 1 - adamW({ emaDecay, emaWarmup: true }).biasCorrections(step).averaging);
    // EMAModel.get_decay with its defaults but `decay`: (1 + s) / (10 + s) after s = step - 1 updates, 0 after none.
    const decays = (emaDecay: number): number[] => [
      0,
      ...[2 / 11, 3 / 12, 4 / 13, 1000 / 1009].map((d) => Math.min(d, emaDecay)),
    ];
    for (const emaDecay of [0.9999, 0.28]) {
      actual(emaDecay).forEach((decay, i) => expect(decay).toBeCloseTo(decays(emaDecay)[i]!, 12));
    }
  });

  it("keeps no average unless asked, and changes nothing in place", () => {
    const run = train({}, 0.1);
    expect(run.state.averaged).toBeUndefined();
    expect([...initial.a.data]).toEqual([0.5, -1.25, 2, 0.75]);
  });

  it("scales no gradient whose norm lies below the limit", () => {
    expect(train({ clipNorm: 100 }, 0.1).params).toEqual(train({}, 0.1).params);
  });

  it("has the defaults of torch.optim.AdamW", () => {
    expect(adamW().options).toEqual({
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay: 0.01,
      clipNorm: undefined,
      emaDecay: undefined,
      emaWarmup: false,
    });
  });

  it.each([{ beta1: 1 }, { beta2: -0.1 }, { epsilon: -1 }, { weightDecay: NaN }, { clipNorm: 0 }, { emaDecay: 1 }])(
    "refuses %o",
    (options) => {
      expect(() => adamW(options)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    },
  );

  it("refuses steps below 1, and gradients of other names than the parameters", () => {
    const optimizer = adamW();
    expect(() => optimizer.biasCorrections(0)).toThrow(/counts from 1/);
    const state = optimizer.init(ops, initial);
    const update = { params: initial, state, learningRate: 1, step: 1 };
    expect(() => optimizer.update(ops, { ...update, gradients: { a: initial.a } })).toThrow(
      expect.objectContaining({ code: "MISSING_PARAMETER", message: expect.stringContaining("missing: b") }),
    );
    expect(() => optimizer.update(ops, { ...update, gradients: { ...initial, c: initial.a } })).toThrow(
      expect.objectContaining({ code: "UNEXPECTED_PARAMETER", message: expect.stringContaining("unexpected: c") }),
    );
  });
});
