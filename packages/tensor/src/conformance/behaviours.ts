import { gradientCheckpoint, groupNorm, silu } from "../nn/functional.js";
import { HostTensor, sizeOf } from "../core/host-tensor.js";
import type { Ops, TensorMap } from "../core/ops.js";
import type { Program } from "../core/program.js";
import { specsOf } from "../core/parameters.js";
import { compare, failed, known, passed, rejected, type ConformanceCase } from "./case.js";
import { positive, spread, wholeNumbers } from "./data.js";

const vector = (...values: number[]): HostTensor => HostTensor.from([values.length], values);
const scalar = (value: number): HostTensor => HostTensor.scalar(value);
const ints = (...values: number[]): HostTensor => new HostTensor([values.length], Int32Array.from(values));
const bools = (...values: number[]): HostTensor => new HostTensor([values.length], Uint8Array.from(values));

/** Behaviour that all operations share: conventions at kinks, element types, errors, repeatability, ownership. */
export function behaviourCases(): ConformanceCase[] {
  return [...conventionCases(), ...differentiationCases(), ...dtypeCases(), ...errorCases(), ...runCases()];
}

/** Gradients of a sum of `f` where the derivative is a convention. */
function conventionCases(): ConformanceCase[] {
  const gradientOf = (
    name: string,
    params: TensorMap<HostTensor>,
    f: <T>(ops: Ops<T>, params: TensorMap<T>) => T,
    expected: TensorMap<HostTensor>,
  ): ConformanceCase =>
    known(
      name,
      { params },
      (ops, given) => ops.valueAndGrad((inner) => ({ loss: ops.sum(f(ops, inner)), aux: {} }), given).grads,
      expected,
      1e-6,
    );
  return [
    gradientOf("relu has gradient 0 at 0", { x: vector(-1, 0, 2) }, (ops, { x }) => ops.relu(x!), {
      x: vector(0, 0, 1),
    }),
    gradientOf("abs has gradient 0 at 0", { x: vector(-1, 0, 2) }, (ops, { x }) => ops.abs(x!), {
      x: vector(-1, 0, 1),
    }),
    ...(["sign", "floor"] as const).map((name) =>
      gradientOf(`${name} has gradient zero`, { x: vector(-1.5, 0, 2) }, (ops, { x }) => ops.mul(ops[name](x!), x!), {
        x: name === "sign" ? vector(-1, 0, 1) : vector(-2, 0, 2),
      }),
    ),
    ...(["maximum", "minimum"] as const).map((name) =>
      gradientOf(
        `${name} of equal elements gives the gradient to the first operand`,
        { a: vector(1, 2, 3), b: vector(2, 2, 2) },
        (ops, { a, b }) => ops[name](a!, b!),
        name === "maximum" ? { a: vector(0, 1, 1), b: vector(1, 0, 0) } : { a: vector(1, 1, 0), b: vector(0, 0, 1) },
      ),
    ),
    gradientOf(
      "max shares its gradient among equal elements",
      { x: HostTensor.from([2, 4], [1, 3, 3, 2, 5, 5, 5, 5]) },
      (ops, { x }) => ops.max(x!, { axes: [1] }),
      { x: HostTensor.from([2, 4], [0, 0.5, 0.5, 0, 0.25, 0.25, 0.25, 0.25]) },
    ),
    known(
      "sigmoid, tanh and exp do not overflow into NaN",
      { inputs: { x: vector(-200, 200) } },
      (ops, _params, { x }) => ({ sigmoid: ops.sigmoid(x!), tanh: ops.tanh(x!), exp: ops.exp(ops.neg(ops.abs(x!))) }),
      { sigmoid: vector(0, 1), tanh: vector(-1, 1), exp: vector(0, 0) },
      1e-6,
    ),
  ];
}

function differentiationCases(): ConformanceCase[] {
  const x = vector(1, -2, 3);
  const w = vector(0.5, 0.25, -1);
  return [
    known(
      "stopGradient keeps the value and stops the gradient",
      { params: { x } },
      (ops, params) => {
        const { loss, grads } = ops.valueAndGrad(
          ({ x }) => ({ loss: ops.sum(ops.mul(x!, ops.stopGradient(ops.square(x!)))), aux: {} }),
          params,
        );
        return { loss, x: grads["x"]! };
      },
      { loss: scalar(20), x: vector(1, 4, 9) },
      1e-6,
    ),
    known(
      "a parameter that the loss does not depend on has a gradient of zeros",
      { params: { x, unused: spread([2, 3], "unused") } },
      (ops, params) => ops.valueAndGrad(({ x }) => ({ loss: ops.sum(x!), aux: {} }), params).grads,
      { x: vector(1, 1, 1), unused: HostTensor.filled([2, 3], 0) },
    ),
    known(
      "a loss that depends on no parameter has gradients of zeros",
      { params: { x } },
      (ops, params) => {
        const { loss, grads } = ops.valueAndGrad(() => ({ loss: ops.scalar(2), aux: {} }), params);
        return { loss, x: grads["x"]! };
      },
      { loss: scalar(2), x: vector(0, 0, 0) },
    ),
    known(
      "results beside the loss are returned, of any element type",
      { params: { x } },
      (ops, params) => {
        const { loss, aux } = ops.valueAndGrad(
          ({ x }) => ({ loss: ops.sum(x!), aux: { square: ops.square(x!), positive: ops.greater(x!, 0) } }),
          params,
        );
        return { loss, ...aux };
      },
      { loss: scalar(2), square: vector(1, 4, 9), positive: bools(1, 0, 1) },
      1e-6,
    ),
    known(
      "what was computed from a parameter outside of the function counts as constant",
      { params: { x } },
      (ops, params) => {
        const outside = ops.mul(params["x"]!, 2);
        return ops.valueAndGrad(({ x }) => ({ loss: ops.sum(ops.mul(x!, outside)), aux: {} }), params).grads;
      },
      { x: vector(2, -4, 6) },
      1e-6,
    ),
    known(
      "a function may be differentiated by some of its tensors",
      { params: { w }, inputs: { x } },
      (ops, params, { x }) => ops.valueAndGrad(({ w }) => ({ loss: ops.sum(ops.mul(w!, x!)), aux: {} }), params).grads,
      { w: x },
      1e-6,
    ),
    known(
      // With f = sum(w x^3): df/dx = 3 w x^2, its squared norm is 9 sum(w^2 x^4), by w: 18 w x^4.
      "the norm of an inner gradient can be differentiated by other parameters",
      { params: { w }, inputs: { x } },
      (ops, params, { x }) => {
        const { loss, aux, grads } = ops.valueAndGrad(({ w }) => {
          const inner = ops.valueAndGrad(({ x }) => ({ loss: ops.sum(ops.mul(w!, ops.pow(x!, 3))), aux: {} }), {
            x: x!,
          });
          return { loss: ops.sum(ops.square(inner.grads["x"]!)), aux: { value: inner.loss } };
        }, params);
        return { loss, value: aux["value"]!, w: grads["w"]! };
      },
      { loss: scalar(9 * (0.25 + 1 + 81)), value: scalar(0.5 - 2 - 27), w: vector(9, 72, -1458) },
      1e-5,
    ),
    ...checkpointCases(),
  ];
}

/** `gradientCheckpoint`, also inside of itself and of gradients, on tensors that its function captures. */
function checkpointCases(): ConformanceCase[] {
  const params = {
    image: spread([2, 4, 3, 3], "image"),
    kernel: spread([4, 4, 3, 3], "kernel"),
    weight: spread([4], "weight"),
    bias: spread([4], "bias"),
  };
  type Block = <T>(ops: Ops<T>, block: () => T) => T;
  const plain: Block = (_ops, block) => block();
  /** Two blocks with a skip connection around the second and a part in a block of its own. */
  const gradients = <T>(ops: Ops<T>, given: TensorMap<T>, block: Block) => {
    const { aux, grads } = ops.valueAndGrad(({ image, kernel, weight, bias }) => {
      const normalized = (x: T): T => silu(ops, groupNorm(ops, x, 2, weight!, bias!, 1e-5));
      const first = block(ops, () => ops.conv2d(normalized(image!), kernel!, bias, { padding: 1 }));
      const second = block(ops, () => {
        const inner = block(ops, () => normalized(first));
        return ops.add(first, ops.conv2d(normalized(inner), kernel!, undefined, { padding: 1 }));
      });
      return { loss: ops.sum(ops.mul(second, first)), aux: { second } };
    }, given);
    return { ...aux, ...grads };
  };
  const names = ["second", ...Object.keys(params)];
  return [
    known(
      "gradient checkpoints change neither values nor gradients",
      { params },
      (ops, given) => {
        const expected = gradients(ops, given, plain);
        const actual = gradients(ops, given, gradientCheckpoint);
        return Object.fromEntries(
          names.map((name) => {
            const largest = ops.max(ops.abs(expected[name]!));
            return [name, ops.div(ops.max(ops.abs(ops.sub(actual[name]!, expected[name]!))), largest)];
          }),
        );
      },
      Object.fromEntries(names.map((name) => [name, scalar(0)])),
      1e-6,
    ),
    known(
      // With f = sum(w (x^2)^3): df/dx = 6 w x^5, its squared norm is 36 sum(w^2 x^10), by w: 72 w x^10.
      "the gradient of a gradient checkpoint can be differentiated",
      { params: { w: vector(0.5, 0.25, -1) }, inputs: { x: vector(1, -1, 2) } },
      (ops, given, { x }) => {
        const { loss, grads } = ops.valueAndGrad(({ w }) => {
          const inner = ops.valueAndGrad(
            ({ x }) => {
              const square = ops.square(x!);
              const cube = (): typeof square => gradientCheckpoint(ops, () => ops.mul(square, ops.square(square)));
              return { loss: ops.sum(gradientCheckpoint(ops, () => ops.mul(w!, cube()))), aux: {} };
            },
            { x: x! },
          );
          return { loss: ops.sum(ops.square(inner.grads["x"]!)), aux: {} };
        }, given);
        return { loss, w: grads["w"]! };
      },
      { loss: scalar(36 * (0.25 + 0.0625 + 1024)), w: vector(36, 18, -72 * 1024) },
      1e-5,
    ),
  ];
}

function dtypeCases(): ConformanceCase[] {
  const x = vector(-1.5, 0, 0.5, 2);
  return [
    known(
      "casts truncate to int32 and keep what is not zero as bool",
      { inputs: { x, i: ints(3, 0, -2), b: bools(1, 0) } },
      (ops, _params, { x, i, b }) => ({
        int: ops.cast(x!, "int32"),
        bool: ops.cast(x!, "bool"),
        floatFromInt: ops.cast(i!, "float32"),
        boolFromInt: ops.cast(i!, "bool"),
        floatFromBool: ops.cast(b!, "float32"),
        intFromBool: ops.cast(b!, "int32"),
      }),
      {
        int: ints(-1, 0, 0, 2),
        bool: bools(1, 0, 1, 1),
        floatFromInt: vector(3, 0, -2),
        boolFromInt: bools(1, 0, 1),
        floatFromBool: vector(1, 0),
        intFromBool: ints(1, 0),
      },
    ),
    known(
      "constants of every element type are what they were made of",
      {},
      (ops) => ({
        float: ops.constant(Float32Array.of(1.5, -2), [2]),
        int: ops.constant(Int32Array.of(7, -8), [1, 2]),
        bool: ops.constant(Uint8Array.of(1, 0), [2]),
        scalar: ops.scalar(0.1),
      }),
      {
        float: vector(1.5, -2),
        int: new HostTensor([1, 2], Int32Array.of(7, -8)),
        bool: bools(1, 0),
        scalar: scalar(0.1),
      },
    ),
    known(
      "shape moves keep int32 and bool",
      {
        inputs: {
          i: new HostTensor([2, 2], Int32Array.of(1, 2, 3, 4)),
          b: new HostTensor([2, 1], Uint8Array.of(1, 0)),
        },
      },
      (ops, _params, { i, b }) => ({
        transposed: ops.transpose(i!, [1, 0]),
        reshaped: ops.reshape(b!, [-1]),
        joined: ops.concat([i!, i!], 1),
        part: ops.slice(i!, 0, 1, 1),
        row: ops.gather(i!, ops.constant(Int32Array.of(1), [1]), 0),
        spread: ops.broadcastTo(b!, [2, 2]),
        chosen: ops.where(b!, i!, ops.constant(Int32Array.of(9), [])),
      }),
      {
        transposed: new HostTensor([2, 2], Int32Array.of(1, 3, 2, 4)),
        reshaped: bools(1, 0),
        joined: new HostTensor([2, 4], Int32Array.of(1, 2, 1, 2, 3, 4, 3, 4)),
        part: new HostTensor([1, 2], Int32Array.of(3, 4)),
        row: new HostTensor([1, 2], Int32Array.of(3, 4)),
        spread: new HostTensor([2, 2], Uint8Array.of(1, 1, 0, 0)),
        chosen: new HostTensor([2, 2], Int32Array.of(1, 2, 9, 9)),
      },
    ),
    known(
      "int32 tensors can be compared",
      { inputs: { i: ints(1, 2, 3) } },
      (ops, _params, { i }) => {
        const two = ops.constant(Int32Array.of(2), []);
        return { equal: ops.equal(i!, two), greater: ops.greater(i!, two), less: ops.less(i!, two) };
      },
      { equal: bools(0, 1, 0), greater: bools(0, 0, 1), less: bools(1, 0, 0) },
    ),
  ];
}

function errorCases(): ConformanceCase[] {
  const misfit = (
    name: string,
    shapes: Readonly<Record<string, readonly number[]>>,
    f: <T>(ops: Ops<T>, tensors: Readonly<Record<"a" | "b" | "c", T>>) => T,
  ): ConformanceCase => {
    const inputs = Object.fromEntries(Object.entries(shapes).map(([key, shape]) => [key, spread(shape, key)]));
    const program: Program = <T>(ops: Ops<T>, _params: TensorMap<T>, tensors: TensorMap<T>) => ({
      result: f(ops, tensors as Readonly<Record<"a" | "b" | "c", T>>),
    });
    return rejected(`${name} is a SHAPE_MISMATCH`, "SHAPE_MISMATCH", inputs, program);
  };
  const mistyped = (name: string, inputs: TensorMap<HostTensor>, program: Program): ConformanceCase =>
    rejected(`${name} is a DTYPE_MISMATCH`, "DTYPE_MISMATCH", inputs, program);
  const image = [1, 2, 4, 4];
  return [
    ...(["add", "sub", "mul", "div", "maximum", "minimum", "equal", "greater", "less"] as const).map((name) =>
      misfit(`${name} of [2, 3] and [2]`, { a: [2, 3], b: [2] }, (ops, { a, b }) => ops[name](a, b)),
    ),
    misfit("where of a condition that does not broadcast", { a: [2, 3], b: [2] }, (ops, { a, b }) =>
      ops.where(ops.greater(b, 0), a, 0),
    ),
    ...(["sum", "mean", "max"] as const).map((name) =>
      misfit(`${name} over an axis that is not there`, { a: [2, 3] }, (ops, { a }) => ops[name](a, { axes: [2] })),
    ),
    misfit("sum over one axis named twice", { a: [2, 3] }, (ops, { a }) => ops.sum(a, { axes: [1, -1] })),
    misfit("argMax over an axis that is not there", { a: [2, 3] }, (ops, { a }) => ops.argMax(a, -3)),
    misfit("softmax over an axis that is not there", { a: [2, 3] }, (ops, { a }) => ops.softmax(a, 2)),
    misfit("matmul of [2, 3] and [2, 3]", { a: [2, 3], b: [2, 3] }, (ops, { a, b }) => ops.matmul(a, b)),
    misfit("matmul of a vector", { a: [3], b: [3, 2] }, (ops, { a, b }) => ops.matmul(a, b)),
    misfit("matmul of batches of 2 and 3", { a: [2, 1, 2], b: [3, 2, 1] }, (ops, { a, b }) => ops.matmul(a, b)),
    misfit("conv2d of other channels", { a: image, b: [1, 3, 3, 3] }, (ops, { a, b }) => ops.conv2d(a, b, undefined)),
    misfit("conv2d of three axes", { a: [2, 4, 4], b: [1, 2, 3, 3] }, (ops, { a, b }) => ops.conv2d(a, b, undefined)),
    misfit("conv2d with another bias", { a: image, b: [1, 2, 3, 3], c: [2] }, (ops, { a, b, c }) =>
      ops.conv2d(a, b, c),
    ),
    misfit("conv2d with a kernel larger than the image", { a: image, b: [1, 2, 5, 5] }, (ops, { a, b }) =>
      ops.conv2d(a, b, undefined),
    ),
    ...(["avgPool2d", "maxPool2d"] as const).map((name) =>
      misfit(`${name} by a number that does not divide`, { a: image }, (ops, { a }) => ops[name](a, 3)),
    ),
    misfit("resizeNearest of three axes", { a: [2, 4, 4] }, (ops, { a }) => ops.resizeNearest(a, [2, 2])),
    misfit("reshape to another number of elements", { a: [2, 3] }, (ops, { a }) => ops.reshape(a, [4])),
    misfit("reshape with two open sizes", { a: [2, 3] }, (ops, { a }) => ops.reshape(a, [-1, -1])),
    misfit("transpose by axes that are not a permutation", { a: [2, 3] }, (ops, { a }) => ops.transpose(a, [0, 0])),
    misfit("transpose of too few axes", { a: [2, 3] }, (ops, { a }) => ops.transpose(a, [0])),
    misfit("broadcastTo a smaller shape", { a: [2, 3] }, (ops, { a }) => ops.broadcastTo(a, [3])),
    misfit("concat of other sizes", { a: [2, 3], b: [3, 3] }, (ops, { a, b }) => ops.concat([a, b], 1)),
    misfit("slice beyond the end", { a: [2, 3] }, (ops, { a }) => ops.slice(a, 1, 2, 2)),
    misfit("pad with too few widths", { a: [2, 3] }, (ops, { a }) => ops.pad(a, [[1, 1]])),
    misfit("gather along an axis that is not there", { a: [2, 3] }, (ops, { a }) =>
      ops.gather(a, ops.constant(Int32Array.of(0), [1]), 2),
    ),
    misfit(
      "valueAndGrad of a loss that is no scalar",
      { a: [2] },
      (ops, { a }) => ops.valueAndGrad(({ a }) => ({ loss: ops.square(a!), aux: {} }), { a }).loss,
    ),
    misfit("a constant of another size", {}, (ops) => ops.constant(Float32Array.of(1, 2), [3])),
    mistyped("exp of int32", { i: ints(1, 2) }, (ops, _params, { i }) => ({ result: ops.exp(i!) })),
    mistyped("add of int32 and float32", { i: ints(1, 2), x: vector(1, 2) }, (ops, _params, { i, x }) => ({
      result: ops.add(i!, x!),
    })),
    mistyped("sum of bool", { b: bools(1, 0) }, (ops, _params, { b }) => ({ result: ops.sum(b!) })),
    mistyped("where with a float32 condition", { x: vector(1, 0) }, (ops, _params, { x }) => ({
      result: ops.where(x!, 1, 0),
    })),
    mistyped("gather with float32 indices", { x: vector(1, 0) }, (ops, _params, { x }) => ({
      result: ops.gather(x!, x!, 0),
    })),
    mistyped("matmul of int32", { i: wholeNumbers([2, 2], 3, "matmul") }, (ops, _params, { i }) => ({
      result: ops.matmul(i!, i!),
    })),
    mistyped("concat of int32 and float32", { i: ints(1), x: vector(1) }, (ops, _params, { i, x }) => ({
      result: ops.concat([i!, x!], 0),
    })),
  ];
}

/** A small network with its gradients, which touches most kinds of kernels. */
const network: Program = (ops, params, { x }) => {
  const { loss, aux, grads } = ops.valueAndGrad((p) => {
    const features = silu(
      ops,
      groupNorm(ops, ops.conv2d(x!, p["conv"]!, p["bias"], { padding: 1 }), 2, p["scale"]!, p["bias"]!, 1e-5),
    );
    const pooled = ops.reshape(ops.avgPool2d(features, 2), [2, 4, -1]); // [2, 4, 16]
    const scores = ops.softmax(ops.matmul(pooled, pooled, { transposeB: true }), -1);
    return { loss: ops.mean(ops.square(scores)), aux: { scores } };
  }, params);
  return { loss, scores: aux["scores"]!, ...grads };
};
const networkParams = {
  conv: spread([4, 3, 3, 3], "conv"),
  bias: spread([4], "bias"),
  scale: positive([4], "scale"),
};
const networkInputs = { x: spread([2, 3, 8, 8], "x") };

function runCases(): ConformanceCase[] {
  return [
    {
      name: "the same program gives the same bits again",
      async check(adapter) {
        const first = await adapter.evaluate(network, networkParams, networkInputs);
        const second = await adapter.evaluate(network, networkParams, networkInputs);
        for (const [name, tensor] of Object.entries(first)) {
          const again = second[name];
          const same =
            again?.data.length === sizeOf(tensor.shape) && tensor.data.every((v, i) => Object.is(v, again.data[i]));
          if (!same) return failed(`${name} differs between two runs`);
        }
        return passed;
      },
    },
    {
      name: "runs leave no tensors behind",
      async check(adapter) {
        if (!adapter.liveTensors) return passed;
        // The first run may make tensors that are kept for the next ones.
        await adapter.evaluate(network, networkParams, networkInputs);
        const before = adapter.liveTensors();
        for (let run = 0; run < 3; run++) await adapter.evaluate(network, networkParams, networkInputs);
        const after = adapter.liveTensors();
        return after === before ? passed : failed(`${before} tensors before three runs, ${after} after`);
      },
    },
    {
      name: "arranged parameters give the same results as others",
      async check({ backend }) {
        if (backend === undefined) return passed;
        // Wide enough for adapters to find another order worth while.
        const params = { weight: spread([192, 192, 3, 3], "arranged weight") };
        const inputs = { x: spread([2, 192, 5, 4], "arranged image") };
        const program: Program<"x", "y"> = (ops, { weight }, { x }) => ({
          y: ops.conv2d(x, weight!, undefined, { padding: 1 }),
        });
        const [expected, actual] = await Promise.all(
          [false, true].map(async (arrangeParams) => {
            const compiled = await backend.compile(program, { params: specsOf(params), arrangeParams, inputs });
            const uploaded = compiled.upload(params);
            const { y } = await compiled.run(uploaded, inputs);
            const host = await backend.download(y);
            for (const tensor of [y, ...Object.values(uploaded)]) backend.dispose(tensor);
            await compiled.dispose();
            return { y: host };
          }),
        );
        return compare(actual!, expected!, 1e-5);
      },
    },
    {
      name: "programs may be compiled and run while others are",
      async check({ backend }) {
        if (backend === undefined) return passed;
        const results = await Promise.all(
          [1, 2, 3, 4].map(async (factor) => {
            const program: Program<"x", "y"> = (ops, _params, { x }) => ({ y: ops.mul(x, factor) });
            const compiled = await backend.compile(program, { inputs: { x: { shape: [2] } } });
            const runs = [10, 20].map(async (value) => {
              const { y } = await compiled.run({}, { x: HostTensor.filled([2], value) });
              const host = await backend.download(y);
              backend.dispose(y);
              return [`${factor} times ${value}`, host] as const;
            });
            const both = await Promise.all(runs);
            await compiled.dispose();
            return both;
          }),
        );
        const expected = [1, 2, 3, 4].flatMap((factor) =>
          [10, 20].map((value) => [`${factor} times ${value}`, HostTensor.filled([2], factor * value)] as const),
        );
        return compare(Object.fromEntries(results.flat()), Object.fromEntries(expected), 0);
      },
    },
    known(
      "a parameter or input may be returned as a result",
      { params: { w: vector(1, 2) }, inputs: { x: vector(3) } },
      (_ops, params, inputs) => ({ w: params["w"]!, x: inputs["x"]! }),
      { w: vector(1, 2), x: vector(3) },
    ),
    known(
      "one tensor may stand under two names",
      { inputs: { x: vector(3) } },
      (ops, _params, { x }) => {
        const y = ops.exp(ops.mul(x!, 0));
        return { first: y, second: y };
      },
      { first: vector(1), second: vector(1) },
      1e-6,
    ),
  ];
}
