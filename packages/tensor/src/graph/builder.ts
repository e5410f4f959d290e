import { givenShape } from "../core/arguments.js";
import { InvalidArgumentError, SdxsError, ShapeError } from "../core/errors.js";
import { sizeOf, type DType, type HostData, type Shape } from "../core/host-tensor.js";
import type { FusedOps, Operand, ReduceOptions, TensorMap } from "../core/ops.js";
import type { TensorSpec } from "../core/program.js";
import {
  fourSides,
  normalizeAxes,
  normalizeAxis,
  resizeShape,
  resolveReshape,
  sameShape,
  show,
  transposeAxes,
} from "../core/shapes.js";
import { attention } from "../nn/functional.js";
import type { BinaryName, UnaryName } from "./elementwise.js";
import type { GraphOps } from "./graph-ops.js";
import { inferType, requireFloat } from "./infer.js";
import {
  memoryOf,
  type Attributes,
  type CustomGradient,
  type Node,
  type NodeOf,
  type OpName,
  type Operands,
} from "./node.js";
import { vjp } from "./vjp.js";

/**
 * Records the operations of a program on symbolic tensors. Equal subexpressions become one node, so a gradient
 * rule may repeat expressions of the forward pass at no cost.
 */
export class GraphBuilder {
  readonly nodes: Node[] = [];
  readonly ops: GraphOps;
  private readonly known = new Map<string, Node>();
  private readonly customGradients = new Map<Node, CustomGradient>();
  /** Replaces operands while a block is recomputed, see `gradientCheckpoint`. */
  private substitute = (node: Node): Node => node;

  /**
   * @param maxTensorBytes limit of a tensor's bytes, as on a GPU. Default: no limit
   * @param mostScores see `attention`. Infinity where traced sizes stand for others, so that no operation may be split by
   * them
   */
  constructor(
    private readonly maxTensorBytes = Infinity,
    readonly mostScores?: number,
  ) {
    this.ops = graphOps(this);
  }

  input(name: string, shape: Shape, dtype: DType): Node {
    return this.add("input", [], { name, shape, dtype });
  }

  /** One input per specification, named `prefix` plus its name. */
  inputs<Name extends string>(specs: Readonly<Record<Name, TensorSpec>>, prefix = ""): Record<Name, Node> {
    return Object.fromEntries(
      Object.entries<TensorSpec>(specs).map(([name, { shape, dtype = "float32" }]) => [
        name,
        this.input(prefix + name, shape, dtype),
      ]),
    ) as Record<Name, Node>;
  }

  constant(data: HostData, shape: Shape): Node {
    if (sizeOf(shape) !== data.length) {
      throw new ShapeError(
        `constant: shape ${show(shape)} needs ${sizeOf(shape)} elements, the data has ${data.length}.`,
      );
    }
    const dtype = data instanceof Float32Array ? "float32" : data instanceof Int32Array ? "int32" : "bool";
    // Small constants are compared by value, larger ones are new each time.
    const key = data.length <= 16 ? data.join() : `#${this.nodes.length}`;
    return this.add("constant", [], { key, shape, dtype }, data);
  }

  /** @throws ShapeError, or SdxsError with code DTYPE_MISMATCH, where the operands do not fit the operation */
  add<Op extends OpName>(op: Op, operands: Operands[Op], attributes: Attributes[Op], data?: HostData): Node {
    const inputs = (operands as readonly Node[]).map(this.substitute) as readonly Node[] as Operands[Op];
    const key = `${op}|${inputs.map(({ id }) => id).join()}|${JSON.stringify(attributes)}`;
    const existing = this.known.get(key);
    if (existing) return existing;
    const { shape, dtype } = inferType(op, inputs, attributes);
    // A GPU's elements, booleans too, are four bytes.
    const bytes = 4 * sizeOf(shape);
    if (bytes > this.maxTensorBytes) {
      throw new SdxsError(
        "BACKEND_FAILURE",
        `${op}: a tensor of shape ${show(shape)} takes ${bytes} bytes, a buffer of this GPU at most ${this.maxTensorBytes}. ` +
          (op === "input" || op === "constant"
            ? `Use a smaller batch or image; weights of this size take webgpuBackend, which reads them in parts.`
            : `Use a smaller batch or image.`),
      );
    }
    const node = { id: this.nodes.length, op, inputs, attributes, shape, dtype, data } as NodeOf<OpName> as Node;
    this.nodes.push(node);
    this.known.set(key, node);
    return node;
  }

  /** Differentiates `output` as a function of `primals` by this rule, in place of the nodes between them. */
  withGradient(output: Node, primals: readonly Node[], rule: CustomGradient["rule"]): Node {
    this.customGradients.set(output, { primals: primals.map(this.substitute), rule });
    return output;
  }

  /**
   * The result of `block`, computed a second time for the gradient: from the same operands, each with zero times the
   * gradient added, without which onnxruntime would find both computations equal and keep the first one's results.
   */
  gradientCheckpoint(block: () => Node): Node {
    const begin = this.nodes.length;
    const substitute = this.substitute;
    const result = block();
    const operands = this.operandsSince(begin, result);
    const computed = operands.filter(isComputed);
    const { ops } = this;
    const output = this.add("variable", [result], { name: `#${this.nodes.length}` });
    return this.withGradient(output, operands, (gradient) => {
      const first = ops.slice(ops.reshape(gradient, [-1]), 0, 0, 1);
      const zero = ops.stopGradient(ops.reshape(ops.mul(first, 0), []));
      const later = new Map(computed.map((node) => [node, ops.add(node, zero)]));
      const standIn = (node: Node): Node => later.get(node) ?? node;
      const repeated = this.withSubstitute((node) => standIn(substitute(node)), block);
      return this.pullback(repeated, gradient, operands.map(standIn));
    });
  }

  /** Differentiable nodes from before `begin` that `result` depends on. */
  private operandsSince(begin: number, result: Node): Node[] {
    const found = new Set([result]);
    for (const node of found) {
      if (node.id < begin) continue;
      for (const parent of [...node.inputs, ...(this.customGradients.get(node)?.primals ?? [])]) found.add(parent);
    }
    return [...found].filter((node) => node.id < begin && node.dtype === "float32");
  }

  private withSubstitute(substitute: (node: Node) => Node, block: () => Node): Node {
    const before = this.substitute;
    this.substitute = substitute;
    try {
      return substitute(block());
    } finally {
      this.substitute = before;
    }
  }

  /** Gradients of a scalar node with respect to others (reverse mode), zeros where it does not depend on them. */
  gradients(loss: Node, targets: readonly Node[]): Node[] {
    if (sizeOf(loss.shape) !== 1) {
      throw new ShapeError(
        `valueAndGrad: the loss must be a scalar, got shape ${show(loss.shape)}. Take its mean or sum.`,
      );
    }
    const one = this.ops.broadcastTo(this.ops.scalar(1), loss.shape);
    return this.pullback(loss, one, targets).map((gradient, i) => gradient ?? this.ops.zerosLike(targets[i]!));
  }

  /** The gradient of `output` carried back to the targets; undefined where `output` does not depend on one. */
  private pullback(output: Node, gradient: Node, targets: readonly Node[]): (Node | undefined)[] {
    const depends = this.dependents(output, targets);
    const cotangents = new Map<Node, Node>([[output, gradient]]);
    const stops = new Set(targets);
    for (const node of [...depends].sort((a, b) => b.id - a.id)) {
      const cotangent = cotangents.get(node);
      if (!cotangent || (stops.has(node) && node !== output)) continue;
      const custom = this.customGradients.get(node);
      const parents = custom?.primals ?? node.inputs;
      const needed = parents.map((parent) => depends.has(parent));
      if (!needed.some(Boolean)) continue;
      const parts = custom ? custom.rule(cotangent) : vjp(this.ops, node, cotangent, needed);
      parents.forEach((parent, i) => {
        const part = parts[i];
        if (!part || !needed[i]) return;
        const sum = cotangents.get(parent);
        cotangents.set(parent, sum ? this.ops.add(sum, part) : part);
      });
    }
    return targets.map((target) => cotangents.get(target));
  }

  /** The nodes on a differentiable path from a target to the output, ends included. */
  private dependents(output: Node, targets: readonly Node[]): Set<Node> {
    const found = new Map<Node, boolean>(targets.map((target) => [target, true]));
    const first = Math.min(...targets.map((target) => target.id));
    const stack = [output];
    // Depth first without recursion: deep networks would overflow the call stack.
    for (let node = stack.at(-1); node; node = stack.at(-1)) {
      if (found.has(node)) {
        stack.pop();
        continue;
      }
      const parents = node.op === "stopGradient" ? [] : (this.customGradients.get(node)?.primals ?? node.inputs);
      const open = parents.filter((parent) => parent.id >= first && parent.dtype === "float32" && !found.has(parent));
      if (open.length > 0) {
        stack.push(...open);
        continue;
      }
      found.set(
        node,
        parents.some((parent) => found.get(parent)),
      );
      stack.pop();
    }
    return new Set([...found].filter(([, depends]) => depends).map(([node]) => node));
  }
}

function graphOps(builder: GraphBuilder): GraphOps {
  const node = (x: Operand<Node>): Node => (typeof x === "number" ? ops.scalar(x) : x);
  const unary = (op: UnaryName) => (x: Node) => builder.add(op, [x], {});
  const binary = (op: BinaryName) => (a: Operand<Node>, b: Operand<Node>) => builder.add(op, [node(a), node(b)], {});
  const reduce =
    (op: "sum" | "mean" | "max") =>
    (x: Node, options: ReduceOptions = {}) => {
      const axes = normalizeAxes(op, options.axes, x.shape.length);
      requireFloat(op, x);
      return axes.length === 0 ? x : builder.add(op, [x], { axes, keepDims: options.keepDims ?? false });
    };
  const isScalar = (x: Operand<Node>, value: number): boolean =>
    x === value || (typeof x !== "number" && x.op === "constant" && x.shape.length === 0 && x.data[0] === value);
  const addBinary = binary("add");
  const mulBinary = binary("mul");
  const divBinary = binary("div");

  const ops: GraphOps = {
    shape: givenShape,
    dtype: (x) => x.dtype,
    constant: (data, shape) => builder.constant(data, shape),
    scalar: (value) => builder.constant(Float32Array.of(value), []),

    neg: unary("neg"),
    abs: unary("abs"),
    sign: unary("sign"),
    exp: unary("exp"),
    log: unary("log"),
    sqrt: unary("sqrt"),
    square: (x) => ops.mul(x, x),
    sin: unary("sin"),
    cos: unary("cos"),
    tanh: unary("tanh"),
    sigmoid: unary("sigmoid"),
    relu: unary("relu"),
    erf: unary("erf"),
    floor: unary("floor"),

    // Gradient rules multiply by one and add zero often enough to drop it here.
    add(a, b) {
      if (isScalar(a, 0) && typeof b !== "number") return b;
      if (isScalar(b, 0) && typeof a !== "number") return a;
      const joined =
        typeof a === "number" || typeof b === "number" ? undefined : (complement(a, b) ?? complement(b, a));
      // The gradients of two slices of one tensor, each padded to its size: side by side instead of added up.
      return joined ? ops.concat(joined.parts, joined.axis) : addBinary(a, b);
    },
    sub: binary("sub"),
    mul: (a, b) =>
      isScalar(a, 1) && typeof b !== "number" ? b : isScalar(b, 1) && typeof a !== "number" ? a : mulBinary(a, b),
    div: (a, b) => (isScalar(b, 1) && typeof a !== "number" ? a : divBinary(a, b)),
    pow: (x, exponent) => builder.add("pow", [x], { exponent }),
    maximum: binary("maximum"),
    minimum: binary("minimum"),

    equal: binary("equal"),
    greater: binary("greater"),
    less: binary("less"),
    where: (condition, a, b) => builder.add("where", [condition, node(a), node(b)], {}),

    sum: reduce("sum"),
    mean: reduce("mean"),
    max: reduce("max"),
    argMax: (x, axis) => builder.add("argMax", [x], { axis: normalizeAxis("argMax", axis, x.shape.length) }),
    softmax: (x, axis) => builder.add("softmax", [x], { axis: normalizeAxis("softmax", axis, x.shape.length) }),

    matmul: (a, b, { transposeA = false, transposeB = false } = {}) =>
      builder.add("matmul", [a, b], { transposeA, transposeB }),
    conv2d: (x, weight, bias, { stride = 1, padding = 0 } = {}) =>
      builder.add("conv2d", bias ? [x, weight, bias] : [x, weight], { stride, padding: fourSides(padding) }),
    avgPool2d: (x, k) => (k === 1 ? x : builder.add("avgPool2d", [x], { k })),
    maxPool2d: (x, k) => (k === 1 ? x : builder.add("maxPool2d", [x], { k })),
    resizeNearest: (x, size) =>
      sameShape(resizeShape(x.shape, size), x.shape) ? x : builder.add("resizeNearest", [x], { size }),

    reshape(x, requested) {
      const shape = resolveReshape(x.shape, requested);
      if (sameShape(shape, x.shape)) return x;
      return x.op === "reshape" ? ops.reshape(x.inputs[0], shape) : builder.add("reshape", [x], { shape });
    },
    transpose(x, permutation) {
      const axes = transposeAxes(x.shape, permutation);
      if (axes.every((axis, i) => axis === i)) return x;
      // Where only axes of size 1 move past others, the memory layout is the same.
      const moving = axes.filter((axis) => x.shape[axis] !== 1);
      if (!moving.every((axis, i) => i === 0 || axis > (moving[i - 1] ?? 0))) {
        return builder.add("transpose", [x], { permutation: axes });
      }
      return ops.reshape(
        x,
        axes.map((axis) => x.shape[axis] ?? 0),
      );
    },
    broadcastTo: (x, shape) => (sameShape(x.shape, shape) ? x : builder.add("broadcastTo", [x], { shape })),
    concat([first, ...others], axis) {
      if (!first) throw new InvalidArgumentError("concat: expected at least one tensor, got none.");
      const at = normalizeAxis("concat", axis, first.shape.length);
      return others.length === 0 ? first : builder.add("concat", [first, ...others], { axis: at });
    },
    slice(x, axis, begin, size) {
      const at = normalizeAxis("slice", axis, x.shape.length);
      const isWhole = begin === 0 && size === x.shape[at];
      return isWhole ? x : builder.add("slice", [x], { axis: at, begin, size });
    },
    pad(x, widths) {
      const isNone = widths.length === x.shape.length && widths.every((sides) => sides.every((width) => width === 0));
      return isNone ? x : builder.add("pad", [x], { widths });
    },
    gather: (x, indices, axis) =>
      builder.add("gather", [x, indices], { axis: normalizeAxis("gather", axis, x.shape.length) }),
    cast: (x, dtype) => (x.dtype === dtype ? x : builder.add("cast", [x], { dtype })),

    stopGradient: (x) => builder.add("stopGradient", [x], {}),
    valueAndGrad(f, params) {
      // Values computed from a parameter outside of `f` count as constants, so inside `f` the parameter is another node.
      const names = Object.keys(params);
      const variables = Object.entries(params).map(([name, x]) =>
        builder.add("variable", [x], { name: `${name}#${builder.nodes.length}` }),
      );
      const named = (nodes: readonly Node[]): TensorMap<Node> =>
        Object.fromEntries(nodes.map((node, i) => [names[i] ?? "", node]));
      const { loss, aux } = f(named(variables));
      return { loss, aux, grads: named(builder.gradients(loss, variables)) };
    },

    conv2dInputGrad: (gradient, weight, { shape }, stride, padding) =>
      builder.add("conv2dInputGrad", [gradient, weight], { stride, padding, shape }),
    conv2dWeightGrad: (x, gradient, { shape }, stride, padding) =>
      builder.add("conv2dWeightGrad", [x, gradient], { stride, padding, shape }),
    normalize: (x, epsilon) => builder.add("normalize", [x], { epsilon }),
    inverseStd(normalized) {
      const y = builder.add("inverseStd", [normalized], {});
      const [x] = normalized.inputs as readonly [Node];
      const size = x.shape.at(-1) ?? 1;
      // d/dx (variance + epsilon)^(-1/2) = -inverseStd^2 * normalized / size
      return builder.withGradient(y, [x], (g) => [ops.mul(ops.mul(ops.mul(g, -1 / size), ops.mul(y, y)), normalized)]);
    },
    zerosLike: (x) => ops.broadcastTo(ops.scalar(0), x.shape),
    get fused() {
      return fused;
    },
  };
  const fused = fusedOps(builder, ops);
  return ops;
}

/** Composites whose gradients cost fewer passes over memory than the chain rule through their parts. */
function fusedOps(builder: GraphBuilder, ops: GraphOps): Partial<FusedOps<Node>> {
  return {
    ...(builder.mostScores !== undefined && {
      attention: (query, key, value, scale, mask) =>
        attention({ ...ops, fused: {} }, query, key, value, scale, mask, builder.mostScores),
    }),

    silu(x) {
      const gate = ops.sigmoid(x);
      const y = ops.mul(x, gate);
      // d/dx x s(x) = s + x s (1 - s) = s + y (1 - s)
      return builder.withGradient(y, [x], (g) => [ops.mul(g, ops.add(gate, ops.mul(y, ops.sub(1, gate))))]);
    },

    gelu(x) {
      const share = ops.mul(ops.add(ops.erf(ops.mul(x, Math.SQRT1_2)), 1), 0.5); // Phi(x)
      // d/dx x Phi(x) = Phi(x) + x phi(x)
      return builder.withGradient(ops.mul(x, share), [x], (g) => {
        const density = ops.mul(ops.exp(ops.mul(ops.mul(x, x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
        return [ops.mul(g, ops.add(share, ops.mul(x, density)))];
      });
    },

    groupNorm(x, groups, weight, bias, epsilon) {
      const [batch = 1, channels = 1] = x.shape;
      if (channels % groups !== 0 || !sameShape(weight.shape, [channels]) || !sameShape(bias.shape, [channels])) {
        throw new ShapeError(
          `groupNorm: expected channels divisible by ${groups} groups and weight and bias [${channels}], ` +
            `got ${show(x.shape)}, ${show(weight.shape)} and ${show(bias.shape)}.`,
        );
      }
      const size = channels / groups;
      const pixels = sizeOf(x.shape) / (batch * channels);
      const normalized = ops.normalize(ops.reshape(x, [batch * groups, size * pixels]), epsilon);
      const planes = ops.reshape(normalized, [batch, channels, pixels]);
      const column = (t: Node): Node => ops.reshape(t, [1, channels, 1]);
      const y = ops.reshape(ops.add(ops.mul(planes, column(weight)), column(bias)), x.shape);
      // With n = size * pixels and sums over one group: dx = (w g - mean(w g) - normalized * mean(w g normalized)) * inverseStd.
      return builder.withGradient(y, [x, weight, bias], (gradient) => {
        const g = ops.reshape(gradient, [batch, channels, pixels]);
        const sums = ops.sum(g, { axes: [2] }); // [batch, channels]
        const products = ops.sum(ops.mul(g, planes), { axes: [2] }); // [batch, channels]
        const inverseStd = ops.reshape(ops.inverseStd(normalized), [batch, groups, 1]);
        const groupMean = (t: Node): Node =>
          ops.mul(
            ops.sum(ops.reshape(ops.mul(t, ops.reshape(weight, [1, channels])), [batch, groups, size]), {
              axes: [2],
              keepDims: true,
            }),
            1 / (size * pixels),
          ); // [batch, groups, 1]
        const perChannel = ops.mul(ops.reshape(weight, [1, groups, size]), inverseStd); // [batch, groups, size]
        const scaled = ops.mul(g, ops.reshape(perChannel, [batch, channels, 1]));
        const slope = ops.mul(groupMean(products), inverseStd);
        const offset = ops.mul(groupMean(sums), inverseStd);
        const correction = ops.add(ops.mul(ops.reshape(normalized, [batch, groups, size * pixels]), slope), offset);
        const dx = ops.sub(scaled, ops.reshape(correction, [batch, channels, pixels]));
        return [ops.reshape(dx, x.shape), ops.sum(products, { axes: [0] }), ops.sum(sums, { axes: [0] })];
      });
    },

    layerNorm(x, weight, bias, epsilon) {
      if (!sameShape(weight.shape, x.shape.slice(-1)) || !sameShape(bias.shape, x.shape.slice(-1))) {
        throw new ShapeError(
          `layerNorm: expected weight and bias of the last axis of ${show(x.shape)}, got ${show(weight.shape)} and ${show(bias.shape)}.`,
        );
      }
      return ops.add(ops.mul(ops.normalize(x, epsilon), weight), bias);
    },

    gradientCheckpoint: (block) => builder.gradientCheckpoint(block),

    linear(x, weight, bias) {
      const features = x.shape.at(-1) ?? 0;
      if (
        weight.shape.length !== 2 ||
        weight.shape[1] !== features ||
        (bias && !sameShape(bias.shape, weight.shape.slice(0, 1)))
      ) {
        throw new ShapeError(
          `linear: expected x [..., ${weight.shape[1]}], weight [out, in] and bias [out], ` +
            `got ${show(x.shape)}, ${show(weight.shape)} and ${bias ? show(bias.shape) : "no bias"}.`,
        );
      }
      // One product over all rows: leading axes would make it a batched product, which is slower.
      const product = ops.matmul(ops.reshape(x, [-1, features]), weight, { transposeB: true });
      const shifted = bias ? ops.add(product, bias) : product;
      return ops.reshape(shifted, [...x.shape.slice(0, -1), weight.shape[0] ?? 0]);
    },
  };
}

/** The unpadded operands of a sum of two paddings along one axis, of which the first ends where the second begins. */
function complement(a: Node, b: Node): { parts: [Node, Node]; axis: number } | undefined {
  if (a.op !== "pad" || b.op !== "pad" || !sameShape(a.shape, b.shape)) return undefined;
  const [[left], [right]] = [a.inputs, b.inputs];
  const [widthsA, widthsB] = [a.attributes.widths, b.attributes.widths];
  const axis = widthsA.findIndex(([, after]) => after > 0);
  const fits = a.shape.every((_, i) => {
    const [beforeA = 0, afterA = 0] = widthsA[i] ?? [];
    const [beforeB = 0, afterB = 0] = widthsB[i] ?? [];
    if (i !== axis) return beforeA + afterA + beforeB + afterB === 0;
    return beforeA === 0 && afterB === 0 && left.shape[i] === beforeB && right.shape[i] === afterA;
  });
  return axis >= 0 && fits ? { parts: [left, right], axis } : undefined;
}

/** Whether a node is computed: not a parameter, input or constant, also after reshaping or renaming. */
function isComputed(node: Node): boolean {
  const { op } = memoryOf(node);
  return op !== "input" && op !== "constant";
}
