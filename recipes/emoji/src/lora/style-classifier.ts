import {
  HostTensor,
  cosineSchedule,
  declareParameters,
  initialize,
  linearLayer,
  random,
  scope,
  type Backend,
  type Ops,
  type Program,
  type Scope,
} from "@sdxs/tensor";
import { gradientTask, takeRows } from "@sdxs/training";
import { mapBatches, rowCount } from "../../../rows.js";
import type { Judge } from "../evaluation/judge.js";
import { crossEntropy } from "../networks.js";
import { runTask, type RunTaskOptions } from "../../../run-task.js";

/** The judge's features of a picture. */
const featureCount = 256;
const batchSize = 64;
const steps = 400;

/** Tells the style of pictures. */
export interface StyleClassifier {
  /**
   * @param images [n, 3, 64, 64] in [-1, 1]
   * @returns the number of the likeliest style of each
   */
  styles(images: HostTensor): Promise<number[]>;
}

const classify = <T>(ops: Ops<T>, p: Scope<T>, features: T, styles: number): T =>
  linearLayer(ops, p.at("style"), features, styles);

/**
 * Trains a linear classifier of the judge's features on real pictures: it judges, and no model is trained with it.
 *
 * @param pictures of each style [n, 3, 64, 64] in [-1, 1]
 */
export async function trainStyleClassifier<D>(
  options: RunTaskOptions & { readonly backend: Backend<D>; readonly seed: number },
  judge: Judge,
  pictures: readonly HostTensor[],
): Promise<StyleClassifier> {
  const { backend, seed } = options;
  const known = await Promise.all(pictures.map((images) => judge.features(images)));
  const count = pictures.length;
  const program: Program<"features" | "style", "loss"> = (ops, params, { features, style }) => {
    return { loss: crossEntropy(ops, classify(ops, scope(ops, params), features, count), style) };
  };
  const inputs = { features: { shape: [batchSize, featureCount] }, style: { shape: [batchSize, count] } };
  const task = await gradientTask({
    name: "style classifier",
    backend,
    program,
    params: initialize(
      declareParameters((ops, p, { features }) => classify(ops, p, features, count), inputs),
      seed,
    ),
    inputs,
    batch(step) {
      const stream = random(seed, "style classifier", step);
      const chosen = stream.at("styles").integers([batchSize], 0, count).data;
      const features = HostTensor.filled([batchSize, featureCount], 0);
      const style = HostTensor.filled([batchSize, count], 0);
      chosen.forEach((which, row) => {
        const of = known[which]!;
        const picture = stream.at("pictures").at(row).integers([], 0, rowCount(of)).item();
        features.data.set(takeRows(of, [picture]).data, row * featureCount);
        style.data[row * count + which] = 1;
      });
      return { features, style };
    },
    batchSize,
    optimizer: { weightDecay: 0.01 },
    learningRate: cosineSchedule({ rate: 1e-2, totalSteps: steps }),
    steps,
  });
  const weights = await runTask(options, task, () => task.weights());
  const logitsOf: Program<"features", "logits"> = (ops, params, { features }) => ({
    logits: classify(ops, scope(ops, params), features, count),
  });
  return {
    async styles(images) {
      const features = await judge.features(images);
      const { logits } = await mapBatches(backend, logitsOf, weights, { features }, batchSize);
      return Array.from({ length: rowCount(images) }, (_, row) => {
        const values = Array.from(logits.data.subarray(row * count, (row + 1) * count));
        return values.indexOf(Math.max(...values));
      });
    },
  };
}
