import {
  HostTensor,
  declareParameters,
  initialize,
  linearLayer,
  scope,
  select,
  type HostParams,
  type Ops,
  type Program,
  type Scope,
} from "@sdxs/tensor";
import {
  dinoV2Features,
  normalizedImages,
  parseDinoV2Config,
  sequentialFeatures,
  type CnnLayer,
} from "@sdxs/losses/extractors";
import type { EmojiDataset, EmojiSample } from "../dataset.js";
import { crossEntropy, imageSpec } from "../networks.js";
import { annealed } from "../../../run-task.js";
import { runStage, type StageOptions } from "../stage.js";

/** Maps of pictures [batch, 3, 64, 64] in [-1, 1]. */
type PictureFeatures = <T>(ops: Ops<T>, p: Scope<T>, images: T) => T[];

/** VGG16's pattern, a quarter as wide and without its last block: chosen, for pictures of 64 pixels. */
const convolutions: readonly CnnLayer[] = [16, 32, 64, 128].flatMap((channels, block): CnnLayer[] => [
  ...(block === 0 ? [] : [{ type: "max-pool" } as const]),
  { type: "convolution", channels },
  { type: "relu" },
  { type: "convolution", channels },
  { type: "relu" },
]);
/** The ReLU at the end of each block. */
const endsOfBlocks = [3, 8, 13, 18];

/** DINOv2's blocks in small. */
const transformer = parseDinoV2Config({
  image_size: 64,
  patch_size: 8,
  hidden_size: 96,
  num_hidden_layers: 4,
  num_attention_heads: 3,
});

/** Of the kinds that Figure 6 compares with the diffusion model's encoder. */
export const pictureNetworks = {
  "a CNN": (ops, p, images) => sequentialFeatures(ops, p, normalizedImages(ops, images), convolutions, endsOfBlocks),
  "a vision transformer": (ops, p, images) => dinoV2Features(ops, p, transformer, images, [0, 1, 2, 3]),
} as const satisfies Record<string, PictureFeatures>;

export type PictureNetwork = keyof typeof pictureNetworks;

const batchSize = 64;

/**
 * Trains such a network to tell concept, style and background of the set's pictures: the pretrained ones of the paper know
 * photographs. Gives its weights without the classifier.
 */
export async function trainPictureNetwork<D>(
  options: StageOptions<D>,
  dataset: EmojiDataset,
  name: PictureNetwork,
  steps: number,
): Promise<HostParams> {
  const { seed } = options;
  const labels = classesOf(dataset);
  const features: PictureFeatures = pictureNetworks[name];
  const classify = <T>(ops: Ops<T>, p: Scope<T>, images: T): T => {
    const last = features(ops, p.at("network"), images).at(-1)!;
    return linearLayer(ops, p.at("classifier"), ops.mean(last, { axes: [2, 3] }), labels.count);
  };
  const program: Program<"images" | "classes", "loss"> = (ops, params, { images, classes }) => {
    const logits = classify(ops, scope(ops, params), images);
    let first = 0;
    const losses = labels.groups.map((count) => {
      const part = (x: typeof logits) => ops.slice(x, 1, first, count);
      const loss = crossEntropy(ops, part(logits), part(classes));
      first += count;
      return loss;
    });
    return { loss: losses.reduce((sum, loss) => ops.add(sum, loss)) };
  };
  const declared = declareParameters((ops, p, { images }) => classify(ops, p, images), { images: imageSpec(1) });
  const trained = await runStage(options, `extractor, ${name}`, {
    program,
    params: initialize(declared, seed),
    inputs: { images: imageSpec(batchSize), classes: { shape: [batchSize, labels.count] } },
    batch(step) {
      const { images, samples } = dataset.batch(seed, batchSize * step, batchSize);
      return { images, classes: labels.of(samples) };
    },
    batchSize,
    optimizer: { weightDecay: 0.01, clipNorm: 1, emaDecay: 0.99 },
    learningRate: annealed(1e-3, steps, 1e-5),
    steps,
  });
  return select(trained, "network.");
}

/** What a picture shows, as ones in three groups. */
function classesOf({ trainingCombinations }: EmojiDataset) {
  const kinds = ["concept", "style", "colour"] as const;
  const named = (kind: (typeof kinds)[number], { concept, style, colour }: Pick<EmojiSample, (typeof kinds)[number]>) =>
    ({ concept: concept.name, style, colour })[kind];
  const known = kinds.map((kind) => [...new Set(trainingCombinations.map((each) => named(kind, each)))]);
  const groups = known.map((names) => names.length);
  const count = groups.reduce((sum, size) => sum + size, 0);
  return {
    groups,
    count,
    of(samples: readonly EmojiSample[]): HostTensor {
      const classes = HostTensor.filled([samples.length, count], 0);
      samples.forEach((sample, row) => {
        let first = row * count;
        kinds.forEach((kind, group) => {
          classes.data[first + known[group]!.indexOf(named(kind, sample))] = 1;
          first += groups[group]!;
        });
      });
      return classes;
    },
  };
}
