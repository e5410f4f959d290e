import { HostTensor, mapTensors, type Ops, type Program, type TensorMap } from "@sdxs/tensor";
import {
  compareGradient,
  compareOutput,
  maxAbs,
  tensorOf,
  uncompared,
  type CaseCheck,
  type Comparison,
  type RunOnce,
} from "@sdxs/tensor/reference-case";
import { discriminatorLoss, generatorLoss, type AdversarialLoss } from "./adversarial.js";
import { downsample, type DownsamplingFilter } from "./downsample.js";
import { l2Pool } from "./extractors/l2-pool.js";
import { featureMatchingLoss } from "./feature-matching.js";
import { featureSimilarity } from "./feature-similarity.js";
import { gaussianSsim, gaussianSsimMap } from "./gaussian-ssim.js";
import { huber } from "./huber.js";
import { l1 } from "./l1.js";
import { mse } from "./mse.js";
import { pseudoHuber } from "./pseudo-huber.js";
import { vaeDistillationLoss } from "./vae-distillation.js";

/** A loss of named tensors, one value per sample. */
export type PerSampleLoss = <T>(ops: Ops<T>, inputs: TensorMap<T>) => T;

/** A loss's values, and the gradient of their mean with respect to the named inputs, as "grad.NAME". */
export async function valuesAndGradients(
  run: RunOnce,
  loss: PerSampleLoss,
  inputs: TensorMap<HostTensor>,
  differentiate: readonly string[],
): Promise<Record<string, HostTensor>> {
  const program: Program = (ops, _params, given) => {
    const varied = Object.fromEntries(differentiate.map((name) => [name, given[name]!]));
    const { aux, grads } = ops.valueAndGrad((changed) => {
      const values = loss(ops, { ...given, ...changed });
      return { loss: ops.mean(values), aux: { values } };
    }, varied);
    return { values: aux["values"]!, ...Object.fromEntries(Object.entries(grads).map(([k, v]) => [`grad.${k}`, v])) };
  };
  return run(program, {}, inputs);
}

export const meanOf = ({ data }: HostTensor): number => Array.from(data).reduce((a, b) => a + b, 0) / data.length;

/** A loss of the inputs x and y. */
const pair =
  (loss: <T>(ops: Ops<T>, x: T, y: T) => T): PerSampleLoss =>
  (ops, { x, y }) =>
    loss(ops, x!, y!);

/** A function of the package beside tensors of the case. `$1` in names stands for what `value` captures first. */
interface LossDefinition {
  /** Name of the result: values per sample, or their mean. */
  readonly value: RegExp;
  /** Names of the function's inputs in the case. */
  readonly inputs: Readonly<Record<string, string>>;
  /** Names of the gradients of the values' mean, by input. */
  readonly gradients?: Readonly<Record<string, string>>;
  readonly loss: (captured: string, tensors: TensorMap<HostTensor>) => PerSampleLoss;
}

const images = { x: "l1ds.x", y: "l1ds.y" };
const maps = { x: "dists.x.$1", y: "dists.y.$1" };
const ssimImages = { x: "ssim.$1.x", y: "ssim.$1.y" };
const ssimOptions = (name: string, tensors: TensorMap<HostTensor>) => ({
  dataRange: tensorOf(tensors, `ssim.${name}.data_range`).item(),
});

/** The case's name of a filter: "bilinear_aa" is antialiased. */
const filterNamed = (name: string): DownsamplingFilter => name.replace("_aa", "-antialias") as DownsamplingFilter;

const adversarialNamed = (name: string): AdversarialLoss => {
  const names: Readonly<Record<string, AdversarialLoss>> = { ns: "non-saturating", ls: "least-squares" };
  return names[name] ?? (name as AdversarialLoss);
};

const definitions: readonly LossDefinition[] = [
  {
    value: /^mse\.out$/,
    inputs: images,
    loss: () => pair(mse),
  },
  {
    value: /^l1\.out$/,
    inputs: images,
    loss: () => pair(l1),
  },
  {
    value: /^huber_(.+)\.out$/,
    inputs: images,
    loss: (delta) => pair((ops, x, y) => huber(ops, x, y, { delta: Number(delta) })),
  },
  {
    value: /^pseudo_huber_(.+)\.out$/,
    inputs: images,
    loss: (c) => pair((ops, x, y) => pseudoHuber(ops, x, y, { c: Number(c) })),
  },
  {
    value: /^l1ds\.out\.(.+)$/,
    inputs: images,
    gradients: { x: "l1ds.grad.$1" },
    loss: (name) => pair((ops, x, y) => vaeDistillationLoss(ops, x, y, { filter: filterNamed(name) })),
  },
  {
    value: /^l1ds\.(.+)\.x_down$/,
    inputs: images,
    loss:
      (name) =>
      (ops, { x }) =>
        downsample(ops, x!, 8, filterNamed(name)),
  },
  {
    value: /^gan\.out\.(.+)_d$/,
    inputs: { real: "gan.real", fake: "gan.fake" },
    gradients: { real: "gan.grad_real.$1_d", fake: "gan.grad_fake.$1_d" },
    loss:
      (name) =>
      (ops, { real, fake }) =>
        discriminatorLoss(ops, adversarialNamed(name), real!, fake!),
  },
  {
    value: /^gan\.out\.(.+)_g$/,
    inputs: { fake: "gan.fake" },
    gradients: { fake: "gan.grad_fake.$1_g" },
    loss:
      (name) =>
      (ops, { fake }) =>
        generatorLoss(ops, adversarialNamed(name), fake!),
  },
  {
    value: /^l2pool\.out$/,
    inputs: { x: "l2pool.x" },
    loss:
      () =>
      (ops, { x }) =>
        l2Pool(ops, x!),
  },
  {
    value: /^dists\.out\.l\.(\d+)$/,
    inputs: maps,
    loss: () => pair((ops, x, y) => featureSimilarity(ops, x, y).texture),
  },
  {
    value: /^dists\.out\.s\.(\d+)$/,
    inputs: maps,
    loss: () => pair((ops, x, y) => featureSimilarity(ops, x, y).structure),
  },
  {
    value: /^dists\.out\.one_minus_mean_ls\.(\d+)$/,
    inputs: maps,
    gradients: { x: "dists.grad_one_minus_mean_ls.x.$1" },
    loss: () => pair((ops, x, y) => featureMatchingLoss(ops, [x], [y])),
  },
  {
    value: /^ssim\.(.+)\.out\.mean$/,
    inputs: ssimImages,
    gradients: { x: "ssim.$1.grad_mean.x" },
    loss: (name, tensors) => pair((ops, x, y) => gaussianSsim(ops, x, y, ssimOptions(name, tensors))),
  },
  {
    value: /^ssim\.(.+)\.out\.full$/,
    inputs: ssimImages,
    loss: (name, tensors) => pair((ops, x, y) => gaussianSsimMap(ops, x, y, ssimOptions(name, tensors))),
  },
];

/** DISTS: texture and structure terms of all maps, weighed by alpha and beta, which sum to 1 over all channels. */
function distsScore(tensors: TensorMap<HostTensor>): LossDefinition {
  const count = Object.keys(tensors).filter((name) => /^dists\.x\.\d+$/.test(name)).length;
  const levels = Array.from({ length: count }, (_, level) => level);
  const named = (tensor: string, pattern: string) =>
    levels.map((level) => [`${tensor}.${level}`, `${pattern}.${level}`]);
  const loss: PerSampleLoss = (ops, given) => {
    const alpha = tensorOf(tensors, "dists.alpha").data;
    const beta = tensorOf(tensors, "dists.beta").data;
    const total = [...alpha, ...beta].reduce((a, b) => a + b);
    let begin = 0;
    const scores = levels.map((level) => {
      const { texture, structure } = featureSimilarity(ops, given[`x.${level}`]!, given[`y.${level}`]!);
      const channels = ops.shape(texture)[1]!;
      const share = (weights: ArrayLike<number>) =>
        ops.constant(
          Float32Array.from({ length: channels }, (_, channel) => weights[begin + channel]! / total),
          [channels],
        );
      const score = ops.sum(ops.add(ops.mul(texture, share(alpha)), ops.mul(structure, share(beta))), { axes: [1] });
      begin += channels;
      return score;
    });
    return ops.sub(
      1,
      scores.reduce((a, b) => ops.add(a, b)),
    );
  };
  return {
    value: /^dists\.out\.score(_mean)?$/,
    inputs: Object.fromEntries([...named("x", "dists.x"), ...named("y", "dists.y")]) as Record<string, string>,
    gradients: Object.fromEntries(named("x", "dists.grad_score_mean.x")) as Record<string, string>,
    loss: () => loss,
  };
}

/**
 * Losses on random tensors: io.safetensors alone. Gradients are those of the values' mean; meta.json notes no largest one,
 * so it is each tensor's own.
 */
export const checkLossesCase: CaseCheck = async (reference, run) => {
  const io = await reference.tensors("io.safetensors");
  const comparisons: Comparison[] = [];
  for (const definition of [...definitions, distsScore(io)]) {
    for (const [name, tensor] of Object.entries(io)) {
      const captured = definition.value.exec(name);
      if (captured === null) continue;
      const named = (pattern: string): string => pattern.replace("$1", captured[1] ?? "");
      const inputs = mapTensors(definition.inputs, (pattern) => asBatch(tensorOf(io, named(pattern))));
      const gradientNames = mapTensors(definition.gradients ?? {}, named);
      const loss = definition.loss(captured[1] ?? "", io);
      const results = await valuesAndGradients(run, loss, inputs, Object.keys(gradientNames));

      const expected = name.endsWith(".out.full") ? withoutBorder(tensor) : tensor;
      comparisons.push(compareOutput(name, likeReference(results["values"]!, expected), expected));
      for (const [input, gradientName] of Object.entries(gradientNames)) {
        const gradient = tensorOf(io, gradientName);
        const actual = likeReference(results[`grad.${input}`]!, gradient);
        comparisons.push(compareGradient(gradientName, actual, gradient, maxAbs(gradient)));
      }
    }
  }
  const inputs = /^(l1ds|dists|ssim\.\w+|l2pool)\.([xy](\.\d+)?|data_range|alpha|beta|filter)$|^gan\.(real|fake)$/;
  return { comparisons, unchecked: uncompared(io, comparisons, inputs) };
};

/** Images [height, width] and [channels, height, width] as [batch, channels, height, width]. */
function asBatch({ shape, data }: HostTensor): HostTensor {
  return new HostTensor([...Array<number>(Math.max(0, 4 - shape.length)).fill(1), ...shape], data);
}

/** One number for a batch is the mean over it. */
function likeReference(actual: HostTensor, { shape, data }: HostTensor): HostTensor {
  if (data.length === actual.data.length) return new HostTensor(shape, actual.data);
  return data.length === 1 ? HostTensor.from(shape, [meanOf(actual)]) : actual;
}

/** scikit-image's map also covers the border, where its window leaves the image; ours begins 5 pixels further in. */
function withoutBorder({ shape, data }: HostTensor): HostTensor {
  const border = 5;
  const [height = 1, width = 1] = shape.slice(-2);
  const inner = Array.from(data).filter((_, index) => {
    const row = Math.floor(index / width) % height;
    const column = index % width;
    return Math.min(row, height - 1 - row, column, width - 1 - column) >= border;
  });
  return HostTensor.from([...shape.slice(0, -2), height - 2 * border, width - 2 * border], inner);
}
