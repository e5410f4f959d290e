import {
  HostTensor,
  InvalidArgumentError,
  ParameterError,
  checkFields,
  fanInUniform,
  kindOf,
  mapTensors,
  normal,
  sizeOf,
  zeros,
  type Operand,
  type Ops,
  type ParameterSpec,
  type Scope,
  type Shape,
  type TensorMap,
} from "@sdxs/tensor";

/**
 * A low-rank adaptation of a network (LoRA, https://arxiv.org/abs/2106.09685): to the weight W of some of its linear and
 * convolution layers is added (alpha / rank) B A. `V` is a tensor, or what declares one.
 */
export interface Lora<V> {
  /**
   * Two parameters for each adapted layer LAYER, under PEFT's names: "LAYER.lora_A.weight" (down, [rank, in] or
   * [rank, in, k, k]) and "LAYER.lora_B.weight" (up, [out, rank] or [out, rank, 1, 1]). Ranks may differ.
   */
  readonly params: Readonly<Record<string, V>>;
  /** alpha by layer. For a layer not listed it is the rank: B A is added without a factor. */
  readonly alphas: Readonly<Record<string, number>>;
}

/** A LoRA and how much of it is added: 1 if not given, less for a weaker effect, negative for its opposite. */
export interface LoraAdapter<T> extends Lora<T> {
  /** A scalar tensor may be given instead, as an input of the program: it then changes without another compilation. */
  readonly weight?: Operand<T>;
}

/** `LoraAdapter` in the memory of JavaScript. */
export interface HostLoraAdapter extends Lora<HostTensor> {
  readonly weight?: number;
}

/** Which layers to adapt: those named so or whose name ends so (".to_q"), or those that the expression matches. */
export type LoraTarget = string | RegExp;

/** Common choices of targets in diffusers' U-Nets and ControlNets and in CLIP's text encoders. */
export const loraTargets = {
  /** The choice of diffusers' training scripts for U-Nets. */
  attention: ["to_q", "to_k", "to_v", "to_out.0"],
  feedForward: ["ff.net.0.proj", "ff.net.2"],
  /** Into and out of the transformers: linear or convolutions of 1 x 1. */
  projections: ["proj_in", "proj_out"],
  /** Of residual blocks, downsamplers and upsamplers. */
  convolutions: [/\.(conv|conv1|conv2|conv_shortcut)$/],
  timeEmbedding: ["time_emb_proj"],
  /** The choice of diffusers' training scripts for text encoders. */
  textAttention: ["q_proj", "k_proj", "v_proj", "out_proj"],
} as const satisfies Record<string, readonly LoraTarget[]>;

export interface LoraOptions {
  /** Rank r of the added matrices, at least 1. Less than the layers' features, else it saves no parameters. */
  readonly rank: number;
  /** Scales what is added by alpha / rank. Default: the rank, as in diffusers' training scripts. */
  readonly alpha?: number;
  /** Default `loraTargets.attention`. */
  readonly targets?: readonly LoraTarget[];
  /**
   * How A begins; B begins at zero, so that the network is unchanged at first (LoRA paper, section 4.1). "gaussian" (default,
   * the paper's and that of diffusers' training scripts): standard deviation 1 / rank. "kaiming" (PEFT's default):
   * uniform by fan-in.
   */
  readonly init?: "gaussian" | "kaiming";
}

/**
 * Declares a new LoRA for a network: `initialize(lora.params, seed)` makes its beginning values.
 *
 * @param network The network's parameters, as `unetParameters` declares them or as a checkpoint has them.
 * @throws InvalidArgumentError where the rank is not a whole number of at least 1, alpha is not finite, or a target
 * matches no linear or convolution layer.
 *
 * @example
 * const lora = loraParameters(unetParameters(config), { rank: 8, targets: [...loraTargets.attention, "proj_in"] });
 */
export function loraParameters(
  network: Readonly<Record<string, { readonly shape: Shape }>>,
  options: LoraOptions,
): Lora<ParameterSpec> {
  checkFields("loraParameters", "options", options, ["rank"]);
  const { rank, alpha = rank, targets = loraTargets.attention, init = "gaussian" } = options;
  if (!Number.isInteger(rank) || rank < 1) {
    throw new InvalidArgumentError(`loraParameters: rank must be a whole number of at least 1, got ${rank}.`);
  }
  if (!Number.isFinite(alpha)) {
    throw new InvalidArgumentError(`loraParameters: alpha must be finite, got ${alpha}.`);
  }
  const isList: boolean = Array.isArray(targets); // callers in plain JavaScript may give one alone
  if (!isList) {
    throw new InvalidArgumentError(
      `loraParameters: expected a list of targets, as loraTargets.attention, got ${kindOf(targets)}.`,
    );
  }
  checkNetwork("loraParameters", network);
  const layers = adaptableLayers(network);
  const idle = targets.filter((target) => !layers.some(([layer]) => matches(target, layer)));
  if (idle.length > 0 || targets.length === 0) {
    throw new InvalidArgumentError(
      `loraParameters: no linear or convolution layer is matched by ${idle.map(String).join(", ") || "an empty list of targets"}. ` +
        `The network has ${layers.length}, as "${layers[0]?.[0]}"; see loraTargets for common choices.`,
    );
  }

  const params: Record<string, ParameterSpec> = {};
  const alphas: Record<string, number> = {};
  for (const [layer, [out = 1, ...input]] of layers) {
    if (!targets.some((target) => matches(target, layer))) continue;
    const initA = init === "gaussian" ? normal(1 / rank) : fanInUniform(sizeOf(input));
    params[`${layer}.lora_A.weight`] = { shape: [rank, ...input], init: initA };
    params[`${layer}.lora_B.weight`] = { shape: [out, rank, ...input.slice(1).map(() => 1)], init: zeros };
    alphas[layer] = alpha;
  }
  return { params, alphas };
}

/**
 * The network's parameters with adapters added: W + sum of weight (alpha / rank) B A for each adapted layer; all others
 * are the given tensors. A pure function, differentiable by W, A, B and a weight given as tensor, so it stands in the
 * program that trains, or that runs with weights to be changed.
 *
 * Cost, in multiply-adds, for a layer of I inputs (times k k) and O outputs at N positions, where the layer itself takes
 * N I O: the sum takes r I O, so 1 / 900 of the forward pass of SDXS-512 at rank 4 and the default targets. In training, the
 * gradients of A and B come from that of W, which takes N I O more: a step on a frozen network grows by 5 % with the
 * default targets (12 % in SDXL) and by 51 % with all layers, as much as training these layers in full. What a LoRA saves
 * is their optimiser state. To run with fixed weights, merge instead: see `mergeLora`.
 *
 * @param params The network's parameters.
 * @param adapters Added in this order; several may adapt the same layer.
 * @throws ParameterError that lists every entry of an adapter which does not fit the network.
 *
 * @example
 * const adapted = applyLora(ops, network, [{ params: select(params, "lora."), alphas: lora.alphas }]);
 * const { sample } = unet(ops, scope(ops, adapted), config, inputs);
 */
export function applyLora<T>(
  ops: Ops<T>,
  params: TensorMap<T>,
  adapters: readonly LoraAdapter<T>[],
): Record<string, T> {
  const network = mapTensors(params, (tensor) => ({ shape: ops.shape(tensor) }));
  const adapted: Record<string, T> = { ...params };
  for (const adapter of adapters) {
    const weight = adapter.weight ?? 1;
    for (const { name, A, B, rank, alpha } of loraLayers(adapter, network, (tensor) => ops.shape(tensor))) {
      const scale = typeof weight === "number" ? (weight * alpha) / rank : ops.mul(weight, alpha / rank);
      adapted[name] = adaptedWeight(ops, adapted[name] as T, A, B, scale);
    }
  }
  return adapted;
}

/** W + scale B A */
function adaptedWeight<T>(ops: Ops<T>, W: T, A: T, B: T, scale: Operand<T>): T {
  const rank = ops.shape(A)[0] ?? 1;
  const up = ops.mul(ops.reshape(B, [-1, rank]), scale); // [out, rank]
  const down = ops.reshape(A, [rank, -1]); // [rank, in * k * k]
  return ops.add(W, ops.reshape(ops.matmul(up, down), ops.shape(W)));
}

/**
 * `applyLora` for a network that finds its parameters in a scope: a scope whose weights have the LoRA added.
 *
 * @param p Scope of the network's parameters; the layers' names follow its path.
 * @param lora One that fits the network: entries for layers that the network does not ask for are not noticed.
 *
 * @example
 * const { sample } = unet(ops, loraScope(ops, p, lora), config, inputs);
 */
export function loraScope<T>(ops: Ops<T>, p: Scope<T>, lora: Lora<T>): Scope<T> {
  const within = (inner: Scope<T>, layer: string): Scope<T> => ({
    path: inner.path,
    at: (name) => within(inner.at(name), layer === "" ? String(name) : `${layer}.${name}`),
    param(name, shape, init) {
      const W = inner.param(name, shape, init);
      const A = lora.params[`${layer}.lora_A.weight`];
      const B = lora.params[`${layer}.lora_B.weight`];
      if (name !== "weight" || A === undefined || B === undefined) return W;
      const rank = ops.shape(A)[0] ?? 1;
      return adaptedWeight(ops, W, A, B, (lora.alphas[layer] ?? rank) / rank);
    },
  });
  return within(p, "");
}

/**
 * `applyLora` once and for all, in the memory of JavaScript: the network then runs as fast as without adapters. The
 * adapted weights are new tensors, all others are the given ones. Keep `params` to change styles: merging others into
 * them restores nothing that could round.
 *
 * @throws ParameterError that lists every entry of an adapter which does not fit the network.
 *
 * @example
 * const anime = mergeLora(weights, [{ ...loras.unet, weight: 0.8 }]);
 */
export function mergeLora(
  params: TensorMap<HostTensor>,
  adapters: readonly HostLoraAdapter[],
): Record<string, HostTensor> {
  const merged: Record<string, HostTensor> = { ...params };
  for (const adapter of adapters) {
    for (const { name, A, B, rank, alpha } of loraLayers(adapter, params, ({ shape }) => shape)) {
      const scale = ((adapter.weight ?? 1) * alpha) / rank;
      merged[name] = addProduct(merged[name]!, B, A, rank, scale);
    }
  }
  return merged;
}

/**
 * Removes merged adapters where the weights from before were not kept: gives these within rounding, at
 * most 2^-23 of the largest of the weight before and after merging, for each adapter.
 *
 * @param params What `mergeLora` gave.
 * @param adapters The same adapters with the same weights.
 */
export function unmergeLora(
  params: TensorMap<HostTensor>,
  adapters: readonly HostLoraAdapter[],
): Record<string, HostTensor> {
  const opposite = adapters.map((adapter) => ({ ...adapter, weight: -(adapter.weight ?? 1) }));
  return mergeLora(params, opposite.reverse());
}

/** weight + scale B A, summed in double precision and rounded once. */
function addProduct(weight: HostTensor, B: HostTensor, A: HostTensor, rank: number, scale: number): HostTensor {
  const rows = weight.shape[0] ?? 1;
  const columns = weight.data.length / rows;
  const sum = new Float32Array(weight.data.length);
  const row = new Float64Array(columns);
  for (let o = 0; o < rows; o++) {
    for (let i = 0; i < columns; i++) row[i] = weight.data[o * columns + i]!;
    for (let r = 0; r < rank; r++) {
      const factor = scale * B.data[o * rank + r]!;
      for (let i = 0; i < columns; i++) row[i]! += factor * A.data[r * columns + i]!;
    }
    sum.set(row, o * columns);
  }
  return new HostTensor(weight.shape, sum);
}

/** Names and weight shapes of a network's linear and convolution layers. */
export function adaptableLayers(
  network: Readonly<Record<string, { readonly shape: Shape }>>,
): [layer: string, shape: Shape][] {
  return Object.entries(network)
    .filter(([name, { shape }]) => name.endsWith(".weight") && (shape.length === 2 || shape.length === 4))
    .map(([name, { shape }]) => [name.slice(0, -".weight".length), shape]);
}

function matches(target: LoraTarget, layer: string): boolean {
  if (typeof target !== "string") return layer.search(target) >= 0;
  return layer === target || layer.endsWith(`.${target}`);
}

interface LoraLayer<V> {
  readonly layer: string;
  /** Of the adapted parameter. */
  readonly name: string;
  readonly A: V;
  readonly B: V;
  readonly rank: number;
  readonly alpha: number;
}

/** The layers of a LoRA that fit the network, and why the others do not. */
export function examineLora<V>(
  lora: Lora<V>,
  network: Readonly<Record<string, { readonly shape: Shape }>>,
  shapeOf: (value: V) => Shape,
): { readonly layers: LoraLayer<V>[]; readonly problems: Problem[] } {
  const pairs = new Map<string, { A?: V; B?: V }>();
  const problems: Problem[] = [];
  for (const [name, value] of Object.entries(lora.params)) {
    const [, layer, part] = /^(.+)\.lora_(A|B)\.weight$/.exec(name) ?? [];
    if (layer === undefined) {
      problems.push({
        code: "UNEXPECTED_PARAMETER",
        text: `${name} is neither LAYER.lora_A.weight nor LAYER.lora_B.weight`,
      });
    } else pairs.set(layer, { ...pairs.get(layer), [part === "A" ? "A" : "B"]: value });
  }
  for (const layer of Object.keys(lora.alphas)) {
    if (!pairs.has(layer))
      problems.push({ code: "MISSING_PARAMETER", text: `${layer} has an alpha but no lora_A and lora_B` });
  }

  const layers: LoraLayer<V>[] = [];
  for (const [layer, { A, B }] of pairs) {
    const name = `${layer}.weight`;
    const shape = network[name]?.shape;
    if (shape === undefined || (shape.length !== 2 && shape.length !== 4)) {
      problems.push({
        code: "UNEXPECTED_PARAMETER",
        text: `${layer} is no linear or convolution layer of the network`,
      });
      continue;
    }
    if (A === undefined || B === undefined) {
      const missing = A === undefined ? "lora_A (down)" : "lora_B (up)";
      problems.push({ code: "MISSING_PARAMETER", text: `${layer} lacks ${missing}` });
      continue;
    }
    const [out = 1, ...input] = shape;
    const rank = shapeOf(A)[0] ?? 0;
    const fits = rank >= 1 && sameMatrix(shapeOf(A), [rank, ...input]) && sameMatrix(shapeOf(B), [out, rank]);
    if (!fits) {
      problems.push({
        code: "SHAPE_MISMATCH",
        text: `${layer} has lora_A [${shapeOf(A).join(", ")}] and lora_B [${shapeOf(B).join(", ")}], its weight [${shape.join(", ")}]`,
      });
      continue;
    }
    layers.push({ layer, name, A, B, rank, alpha: lora.alphas[layer] ?? rank });
  }
  return { layers, problems };
}

/** The layers of a LoRA, all of which must fit the network. */
export function loraLayers<V>(...given: Parameters<typeof examineLora<V>>): LoraLayer<V>[] {
  const { layers, problems } = examineLora(...given);
  failOn(problems);
  return layers;
}

/** Something that keeps a LoRA from fitting a network. */
export interface Problem {
  readonly code: ConstructorParameters<typeof ParameterError>[0];
  readonly text: string;
}

/** One error for all problems, if there are any. */
export function failOn(problems: readonly Problem[]): void {
  const [first] = problems;
  if (first === undefined) return;
  throw new ParameterError(
    first.code,
    `The LoRA does not fit the network (${problems.length} of its entries):\n` +
      `${problems.map(({ text }) => `  ${text}`).join("\n")}\nUse one that was made for this network.`,
  );
}

/** Equal shapes, where a convolution of 1 x 1 is a matrix. */
function sameMatrix(a: Shape, b: Shape): boolean {
  const matrix = (shape: Shape): string =>
    (shape.length === 4 && shape[2] === 1 && shape[3] === 1 ? shape.slice(0, 2) : shape).join();
  return matrix(a) === matrix(b);
}

/** Throws `InvalidArgumentError` for what holds no parameters. */
function checkNetwork(where: string, network: unknown): void {
  if (typeof network === "object" && network !== null && !Array.isArray(network)) return;
  throw new InvalidArgumentError(
    `${where}: expected a network's parameters, by their names, as unetParameters gives them; got ${kindOf(network)}.`,
  );
}
