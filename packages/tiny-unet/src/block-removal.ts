import { InvalidArgumentError, ParameterError } from "@sdxs/tensor";
import { unetParameters } from "./unet.js";
import { unetStages, type PerLevel, type UNetConfig } from "./unet-config.js";

/** Which blocks of a teacher a student does without. */
export interface BlockRemoval {
  /** Residual blocks that stay in each down stage; each up stage keeps one more. Default: the teacher's. */
  readonly layersPerBlock?: number;
  /** The mid stage goes. */
  readonly removeMidStage?: boolean;
  /** The lowest resolution goes: the last down stage and the first up stage. */
  readonly removeLowestResolution?: boolean;
  /**
   * What becomes of the highest resolution's transformers, the costliest: they stay (default), they go, or their
   * self-attention looks at the text instead (diffusers' `only_cross_attention`).
   */
  readonly highestResolution?: "keep" | "remove-transformers" | "only-cross-attention";
}

const smallest = { layersPerBlock: 1, removeMidStage: true, removeLowestResolution: true } as const;

/** Published recipes. */
export const blockRemovalPresets = {
  /** SDXS-512 and -DreamShaper: SDXS paper, section 3.1. */
  sdxs: { ...smallest, highestResolution: "remove-transformers" },
  /** SDXS-512-0.9: its model card. */
  "sdxs-0.9": { ...smallest, highestResolution: "only-cross-attention" },
  /** BK-SDM paper, section 3.1. */
  "bk-sdm-base": { layersPerBlock: 1 },
  "bk-sdm-small": { layersPerBlock: 1, removeMidStage: true },
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
 * the next finer level's skip connection: with the transformers behind them, as in BK-SDM. Where the first up stage goes
 * and the channels differ between the two lowest resolutions (SDXL), the new first up stage's first residual block gets
 * narrower input than the teacher's; a middle one, which takes the level's own channels twice, is copied instead.
 *
 * Throws `InvalidArgumentError` for a removal that leaves nothing.
 *
 * @example
 * const plan = planBlockRemoval(parseUNetConfig(teacherJson), "sdxs");
 * const student = { ...initialize(unetParameters(plan.config), seed), ...copyParameters(plan, teacher) };
 */
export function planBlockRemoval(teacher: UNetConfig, removal: BlockRemovalPreset | BlockRemoval): BlockRemovalPlan {
  const options: BlockRemoval = typeof removal === "string" ? blockRemovalPresets[removal] : removal;
  const teacherStages = unetStages(teacher);
  const removedLevels = options.removeLowestResolution ? 1 : 0;
  const levels = teacher.block_out_channels.length - removedLevels;
  if (levels < 1) {
    throw new InvalidArgumentError(
      "planBlockRemoval: the teacher has one resolution only, which cannot be removed. Leave out removeLowestResolution.",
    );
  }

  // Teacher's layers that stay, by index, per stage.
  const keptDown = teacherStages.down.slice(0, levels).map(({ transformerLayers }) => {
    const count = Math.min(options.layersPerBlock ?? transformerLayers.length, transformerLayers.length);
    return Array.from({ length: count }, (_, index) => index);
  });
  const keptUp = teacherStages.up.slice(removedLevels).map(({ transformerLayers }) => {
    const count = Math.min(options.layersPerBlock ?? transformerLayers.length - 1, transformerLayers.length - 1);
    return [...Array.from({ length: count }, (_, index) => index), transformerLayers.length - 1];
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
    ...(config.mid_block_type === null ? [] : [{ teacher: "mid_block", student: "mid_block" }]),
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
  const highest = options.highestResolution ?? "keep";
  const perLevel = <V extends number | boolean>(value: PerLevel<V>): PerLevel<V> =>
    typeof value === "object" ? value.slice(0, levels) : value;
  // A nested list has one depth per layer: those of the layers that stay.
  const depths = (
    values: readonly (number | readonly number[])[],
    kept: readonly (readonly number[])[],
  ): (number | number[])[] =>
    values.map((depth, stage) =>
      typeof depth === "number" ? depth : (kept[stage] ?? []).map((layer) => depth[layer] as number),
    );

  const layers = keptDown.map((kept) => kept.length);
  const down = teacher.down_block_types.slice(0, levels);
  const up = teacher.up_block_types.slice(-levels);
  if (highest === "remove-transformers") {
    down[0] = "DownBlock2D";
    up[levels - 1] = "UpBlock2D";
  }
  const { transformer_layers_per_block: downDepths, reverse_transformer_layers_per_block: upDepths } = teacher;
  const onlyCross = teacher.only_cross_attention;
  return {
    ...teacher,
    block_out_channels: teacher.block_out_channels.slice(0, levels),
    down_block_types: down,
    up_block_types: up,
    mid_block_type: options.removeMidStage ? null : teacher.mid_block_type,
    layers_per_block: layers.every((count) => count === layers[0]) ? (layers[0] ?? 1) : layers,
    attention_head_dim: perLevel(teacher.attention_head_dim),
    only_cross_attention:
      highest === "only-cross-attention"
        ? layers.map(
            (_, level) => level === 0 || (typeof onlyCross === "boolean" ? onlyCross : (onlyCross[level] ?? false)),
          )
        : perLevel(onlyCross),
    transformer_layers_per_block:
      typeof downDepths === "number" ? downDepths : depths(downDepths.slice(0, levels), keptDown),
    reverse_transformer_layers_per_block: upDepths && depths(upDepths.slice(-levels), keptUp),
  };
}
