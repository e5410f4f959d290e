import { InvalidArgumentError, ParameterError } from "@sdxs/tensor";
import { unetParameters } from "./unet.js";
import { isList, unetStages, type PerLevel, type UNetConfig } from "./unet-config.js";

/**
 * Which blocks of a teacher a student does without.
 *
 * A down stage and the up stage of the same resolution are one level; lists go from the highest resolution to the lowest,
 * and levels that a list does not reach are unchanged. Numbers of blocks are upper limits: levels with fewer keep all of them.
 */
export interface BlockRemoval {
  /** How many levels are removed, lowest resolution first: the last down stages and the first up stages. Default 0. */
  readonly removedLevels?: number;
  /** Of the mid stage, everything stays (default), its first residual block (diffusers' `UNetMidBlock2D`), or nothing. */
  readonly midStage?: "keep" | "residual-block" | "remove";
  /** Residual blocks that stay in each down stage, at least 1; each up stage keeps one more. Default: the teacher's. */
  readonly layersPerBlock?: PerLevel<number>;
  /**
   * Transformer blocks that stay after each residual block, a nested list with one list for each block; 0: the level's
   * transformers go. The mid stage's go with the lowest level's. Default: the teacher's.
   */
  readonly transformerLayers?: number | readonly Depth[];
  /** The same for the up stages alone, again from the highest resolution. Default: `transformerLayers`. */
  readonly upTransformerLayers?: number | readonly Depth[];
  /** Levels whose self-attention looks at the text instead (diffusers' `only_cross_attention`). Default: the teacher's. */
  readonly onlyCrossAttention?: PerLevel<boolean>;
}

/** The transformer blocks after each residual block of a level: one number for all, or a list. */
type Depth = number | readonly number[];

const smallest = { removedLevels: 1, midStage: "remove", layersPerBlock: 1 } as const;

/** Published recipes, by the student that each makes of its teacher; see `publishedUNets` for both. */
export const blockRemovalPresets = {
  /** Of SD 2.1 base, or of SD 1.5 for SDXS-512-DreamShaper: SDXS paper, section 3.1. */
  "sdxs-512": { ...smallest, transformerLayers: [0] },
  /** Of SD 2.1 base: the release's model card. */
  "sdxs-512-0.9": { ...smallest, onlyCrossAttention: [true] },
  /** Of SDXL: most transformer blocks go (SDXS paper, section 3.1). It is Segmind Vega (https://arxiv.org/abs/2401.02677). */
  "sdxs-1024": { midStage: "residual-block", transformerLayers: [1, 1, 2] },
  /** Of SD 1: BK-SDM paper, section 3.1. */
  "bk-sdm-base": { layersPerBlock: 1 },
  "bk-sdm-small": { layersPerBlock: 1, midStage: "remove" },
  "bk-sdm-tiny": smallest,
} as const satisfies Record<string, BlockRemoval>;

export type BlockRemovalPreset = keyof typeof blockRemovalPresets;

/** A student made from a teacher by leaving blocks out. */
export interface BlockRemovalPlan {
  /** The student's configuration. */
  readonly config: UNetConfig;
  /** For each student parameter that begins as a copy: the teacher's parameter of the same shape. */
  readonly copies: Readonly<Record<string, string>>;
  /** Student parameters that no teacher parameter fits: they begin by their initialisers. */
  readonly initialized: readonly string[];
  /** Features of equal shape, under the names of `namedFeatures`, for feature distillation. */
  readonly features: readonly { readonly teacher: string; readonly student: string }[];
}

/**
 * Plans a smaller U-Net from a teacher's configuration: the student's configuration, where each of its parameters is
 * copied from, and which features correspond.
 *
 * In a down stage the first residual blocks stay. In an up stage the first ones and the last stay, because the last takes
 * the next finer level's skip connection: with the transformers after them, as in BK-SDM. Of a transformer's blocks the
 * first ones stay. Where the first up stage goes and the channels differ between the two lowest resolutions (SDXL), the
 * new first up stage's first residual block gets narrower input than the teacher's; a middle one, which takes the level's
 * own channels twice, is copied instead.
 *
 * Throws `InvalidArgumentError` for a removal that leaves nothing, or that does not fit the teacher.
 *
 * @example
 * const plan = planBlockRemoval(parseUNetConfig(teacherJson), "sdxs-512");
 * const student = { ...initialize(unetParameters(plan.config), seed), ...copyParameters(plan, teacher) };
 */
export function planBlockRemoval(teacher: UNetConfig, removal: BlockRemovalPreset | BlockRemoval): BlockRemovalPlan {
  const options = typeof removal === "string" ? preset(removal) : removal;
  const teacherStages = unetStages(teacher);
  const removedLevels = options.removedLevels ?? 0;
  const levels = teacher.block_out_channels.length - removedLevels;
  if (!Number.isInteger(removedLevels) || removedLevels < 0 || levels < 1) {
    throw new InvalidArgumentError(
      `planBlockRemoval: removedLevels must be a whole number from 0 to ${teacher.block_out_channels.length - 1}, ` +
        `because the teacher has ${teacher.block_out_channels.length} levels, got ${removedLevels}.`,
    );
  }

  // Teacher's layers that stay, by index, per stage.
  const layerLimits = blocksPerLevel("layersPerBlock", options.layersPerBlock, levels, 1);
  const keptDown = teacherStages.down.slice(0, levels).map(({ transformerLayers }, stage) => {
    return firstIndices(Math.min(layerLimits[stage] ?? Infinity, transformerLayers.length));
  });
  const keptUp = teacherStages.up.slice(removedLevels).map(({ transformerLayers }, stage) => {
    const last = transformerLayers.length - 1;
    return [...firstIndices(Math.min(layerLimits[levels - 1 - stage] ?? Infinity, last)), last];
  });

  const config = studentConfig(teacher, options, keptDown, keptUp);
  const teacherParameters = unetParameters(teacher);
  const studentParameters = unetParameters(config);
  const sameShape = (student: string, source: string): boolean =>
    studentParameters[student]?.shape.join() === teacherParameters[source]?.shape.join();

  // The teacher's residual block for a student's, where the preferred one's input is too wide.
  const upSource = (stage: number, index: number): number => {
    const preferred = keptUp[stage]?.[index] ?? index;
    const teacherStage = stage + removedLevels;
    const fits = (layer: number): boolean =>
      sameShape(
        `up_blocks.${stage}.resnets.${index}.conv1.weight`,
        `up_blocks.${teacherStage}.resnets.${layer}.conv1.weight`,
      );
    const layers = [...(teacherStages.up[teacherStage]?.transformerLayers.keys() ?? [])];
    return [preferred, ...layers].find(fits) ?? preferred;
  };
  const teacherName = (student: string): string =>
    student
      .replace(/^down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)/, (_, stage: string, kind: string, index: string) => {
        return `down_blocks.${stage}.${kind}.${keptDown[Number(stage)]?.[Number(index)]}`;
      })
      .replace(
        /^up_blocks\.(\d+)\.(?:(resnets|attentions)\.(\d+))?/,
        (_, stage: string, kind?: string, index?: string) => {
          const prefix = `up_blocks.${Number(stage) + removedLevels}.`;
          return kind === undefined ? prefix : `${prefix}${kind}.${upSource(Number(stage), Number(index))}`;
        },
      );

  const copies: Record<string, string> = {};
  const initialized: string[] = [];
  for (const name of Object.keys(studentParameters)) {
    const source = teacherName(name);
    if (sameShape(name, source)) copies[name] = source;
    else initialized.push(name);
  }

  const features = [
    ...keptDown.map((_, stage) => {
      // The student's lowest resolution has no downsampler; the teacher's features before its own correspond.
      const beforeDownsampler = removedLevels > 0 && stage === levels - 1;
      const lastLayer = (teacherStages.down[stage]?.transformerLayers.length ?? 1) - 1;
      const source = beforeDownsampler ? `down_blocks.${stage}.res.${lastLayer}` : `down_blocks.${stage}`;
      return { teacher: source, student: `down_blocks.${stage}` };
    }),
    // Between other levels its channels or its resolution are others.
    ...(config.mid_block_type === null || removedLevels > 0 ? [] : [{ teacher: "mid_block", student: "mid_block" }]),
    ...keptUp.map((_, stage) => ({ teacher: `up_blocks.${stage + removedLevels}`, student: `up_blocks.${stage}` })),
  ];
  return { config, copies, initialized, features };
}

/**
 * A plan's copied parameters under their new names. The values themselves are shared, not cloned.
 * Throws `ParameterError` (MISSING_PARAMETER) that lists what the teacher lacks.
 */
export function copyParameters<V>(
  plan: Pick<BlockRemovalPlan, "copies">,
  teacher: Readonly<Record<string, V>>,
): Record<string, V> {
  const missing = Object.values(plan.copies).filter((source) => !(source in teacher));
  if (missing.length > 0) {
    throw new ParameterError(
      "MISSING_PARAMETER",
      `copyParameters: the teacher lacks ${missing.length} of the plan's parameters: ${missing.join(", ")}. ` +
        `Check that the weights belong to the configuration that the plan was made from.`,
    );
  }
  return Object.fromEntries(Object.entries(plan.copies).map(([name, source]) => [name, teacher[source] as V]));
}

function studentConfig(
  teacher: UNetConfig,
  options: BlockRemoval,
  keptDown: readonly (readonly number[])[],
  keptUp: readonly (readonly number[])[],
): UNetConfig {
  const levels = keptDown.length;
  const { transformerLayers, upTransformerLayers } = options;
  const downLimits = blocksPerLevel<Depth>("transformerLayers", transformerLayers, levels, 0);
  const upLimits =
    upTransformerLayers === undefined
      ? downLimits
      : blocksPerLevel<Depth>("upTransformerLayers", upTransformerLayers, levels, 0);
  const onlyCross = perLevel("onlyCrossAttention", options.onlyCrossAttention, levels);
  const depths = spread(teacher.transformer_layers_per_block, levels);
  const upDepths = teacher.reverse_transformer_layers_per_block?.slice(-levels) ?? [...depths].reverse();
  const down = depths.map((depth, level) => limited(depth, downLimits[level], keptDown[level] ?? []));
  const up = upDepths.map((depth, stage) => limited(depth, upLimits[levels - 1 - stage], keptUp[stage] ?? []));
  const upIsDown = JSON.stringify(up) === JSON.stringify([...down].reverse());

  let mid = teacher.mid_block_type;
  if (options.midStage === "remove") mid = null;
  else if (mid !== null && (options.midStage === "residual-block" || downLimits[levels - 1] === 0)) {
    mid = "UNetMidBlock2D";
  }
  return {
    ...teacher,
    block_out_channels: teacher.block_out_channels.slice(0, levels),
    down_block_types: teacher.down_block_types
      .slice(0, levels)
      .map((type, level) => (downLimits[level] === 0 ? "DownBlock2D" : type)),
    up_block_types: teacher.up_block_types
      .slice(-levels)
      .map((type, stage) => (upLimits[levels - 1 - stage] === 0 ? "UpBlock2D" : type)),
    mid_block_type: mid,
    layers_per_block: inFormOf(
      teacher.layers_per_block,
      keptDown.map((kept) => kept.length),
    ),
    attention_head_dim: inFormOf(teacher.attention_head_dim, spread(teacher.attention_head_dim, levels)),
    only_cross_attention: inFormOf(
      teacher.only_cross_attention,
      spread(teacher.only_cross_attention, levels).map((value, level) => onlyCross[level] ?? value),
    ),
    transformer_layers_per_block: inFormOf(teacher.transformer_layers_per_block, down),
    reverse_transformer_layers_per_block: teacher.reverse_transformer_layers_per_block === null && upIsDown ? null : up,
  };
}

/** A level's transformer blocks after each residual block that stays. A limit of 0 takes the transformers away elsewhere. */
function limited(depth: Depth, limit: Depth | undefined, kept: readonly number[]): Depth {
  const most = limit === undefined || limit === 0 ? Infinity : limit;
  if (typeof depth === "number" && typeof most === "number") return Math.min(depth, most);
  if (typeof most === "object" && most.length !== kept.length) {
    throw new InvalidArgumentError(
      `planBlockRemoval: a nested list of transformer blocks needs a number for each residual block that stays; ` +
        `[${most.join(", ")}] has ${most.length} for ${kept.length}. Up stages have one more than down stages: see upTransformerLayers.`,
    );
  }
  // Of a stage without transformers the list may be shorter, as in SSD-1B.
  const depths = typeof depth === "number" ? kept.map(() => depth) : kept.flatMap((layer) => depth[layer] ?? []);
  return depths.map((count, index) => Math.min(count, typeof most === "number" ? most : (most[index] ?? Infinity)));
}

/** 0 to count - 1. */
const firstIndices = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

function preset(name: string): BlockRemoval {
  if (Object.hasOwn(blockRemovalPresets, name)) return blockRemovalPresets[name as BlockRemovalPreset];
  throw new InvalidArgumentError(
    `planBlockRemoval: there is no preset "${name}"; there are ${Object.keys(blockRemovalPresets).join(", ")}. ` +
      `Use one of them, or list the blocks to remove.`,
  );
}

/** An option's value for each level, undefined where it says nothing. */
function perLevel<V extends number | boolean | readonly number[]>(
  name: keyof BlockRemoval,
  option: V | readonly V[] | undefined,
  levels: number,
): (V | undefined)[] {
  if (!isList(option)) return Array.from({ length: levels }, () => option);
  if (option.length <= levels) return Array.from({ length: levels }, (_, level) => option[level]);
  throw new InvalidArgumentError(
    `planBlockRemoval: ${name} has ${option.length} values, but ${levels} levels stay. ` +
      `Give at most one per level, from the highest resolution to the lowest.`,
  );
}

/** The same for numbers of blocks, checked. */
function blocksPerLevel<V extends number | readonly number[]>(
  name: keyof BlockRemoval,
  option: V | readonly V[] | undefined,
  levels: number,
  least: number,
): (V | undefined)[] {
  const values = perLevel(name, option, levels);
  for (const value of values) {
    // A nested list is of a level that keeps its transformers.
    const [counts, lowest] = typeof value === "object" ? [value, 1] : [[value ?? least], least];
    const wrong = counts.find((count) => !Number.isInteger(count) || count < lowest);
    if (wrong === undefined) continue;
    throw new InvalidArgumentError(
      `planBlockRemoval: ${name} must hold whole numbers of at least ${lowest}, got ${wrong}.`,
    );
  }
  return values;
}

/** A configuration's value for each of the first levels. */
function spread<V>(value: PerLevel<V>, levels: number): V[] {
  return isList(value) ? value.slice(0, levels) : Array.from({ length: levels }, () => value);
}

/** Values per level as one value, where they are equal and the teacher's configuration has one. */
function inFormOf<V>(teacherValue: PerLevel<V>, values: readonly V[]): PerLevel<V> {
  const [first] = values;
  return !isList(teacherValue) && first !== undefined && values.every((value) => value === first) ? first : values;
}
